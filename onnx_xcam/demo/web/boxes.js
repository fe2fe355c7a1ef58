/** The boxes of objects on a photo. Boxes are [x1, y1, x2, y2] in pixels of the photo, sizes [height, width]. */

const LEAST_SAVED = 640; // pixels: a smaller picture is enlarged before boxes are drawn into it
const LINE_PART = 320; // lines are this part of the shorter side

/** The object with the smallest box around a point ([y, x], 0..1 from edge to edge of the photo), or -1. */
export function objectAt({ classes, size: [height, width] }, [y, x]) {
  let [best, least] = [-1, Infinity];
  classes.forEach(({ box }, k) => {
    if (!box) return;
    const [x1, y1, x2, y2] = box;
    const area = (x2 - x1) * (y2 - y1);
    if (x1 <= x * width && x * width <= x2 && y1 <= y * height && y * height <= y2 && area < least) {
      [best, least] = [k, area];
    }
  });
  return best;
}

/** Coordinates x, y, x, y, ... in the model's input as coordinates in the photo, where a letterbox and a crop are undone. */
export function onPhotoOf({ photo, scaled, offset }, xy) {
  return xy.map((value, at) => {
    const axis = at % 2 ? 0 : 1;
    return ((value + offset[axis]) * photo[axis]) / scaled[axis];
  });
}

/**
 * Lay boxes over a photo as elements: the one of the chosen object bold and with its label, the others thin.
 *
 * @param layer the element that covers the photo. @param boxes {box, label, colour} each, where box may be null.
 */
export function listBoxes(layer, size, boxes, chosen = -1) {
  const parts = [];
  boxes.forEach(({ box, label, colour }, k) => {
    const sides = box && onPhoto(box, size);
    if (!sides) return;
    const [left, top, right, bottom] = sides;
    const frame = document.createElement("div");
    frame.className = k === chosen ? "box chosen" : "box";
    const place = { left, top, width: right - left, height: bottom - top };
    for (const [side, share] of Object.entries(place)) frame.style[side] = `${100 * share}%`;
    if (k !== chosen) frame.style.borderColor = colour;
    parts.push(frame);
    if (k === chosen) parts.push(tag(label, sides));
  });
  layer.replaceChildren(...parts);
}

/** A label above its box, or below where the box begins at the top; towards the middle of the photo. */
function tag(text, [left, top, right, bottom]) {
  const element = document.createElement("div");
  element.className = "tag";
  element.textContent = text;
  const toTheLeft = left + right > 1;
  element.style[toTheLeft ? "right" : "left"] = `${100 * (toTheLeft ? 1 - right : left)}%`;
  element.style.maxWidth = `${100 * (toTheLeft ? right : 1 - left)}%`;
  if (top > 0.1) element.style.bottom = `${100 * (1 - top)}%`;
  else if (bottom < 0.9) element.style.top = `${100 * bottom}%`;
  else element.style.top = `${100 * top}%`;
  return element;
}

/** The part of a box that lies on the photo, as shares of its sides, [left, top, right, bottom]; null where none does. */
function onPhoto([x1, y1, x2, y2], [height, width]) {
  const share = (value, side) => Math.min(1, Math.max(0, value / side));
  const sides = [share(x1, width), share(y1, height), share(x2, width), share(y2, height)];
  return sides[0] < sides[2] && sides[1] < sides[3] ? sides : null;
}

/** A copy of a picture with the boxes in it, enlarged where it is too small for lines and letters. */
export function drawBoxes(picture, size, boxes, chosen) {
  const factor = Math.max(1, Math.ceil(LEAST_SAVED / Math.max(picture.width, picture.height)));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [factor * picture.width, factor * picture.height];
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const thick = Math.max(1, Math.round(Math.min(canvas.width, canvas.height) / LINE_PART));
  const order = boxes.map((_, k) => k).sort((a, b) => Number(a === chosen) - Number(b === chosen));
  for (const k of order) {
    const sides = boxes[k].box && onPhoto(boxes[k].box, size);
    if (!sides) continue;
    const [left, top, right, bottom] = sides.map((share, at) => share * (at % 2 ? canvas.height : canvas.width));
    const line = k === chosen ? 2 * thick : thick;
    for (const [colour, width] of [["black", line + 2], [k === chosen ? "white" : boxes[k].colour, line]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    if (k === chosen) drawLabel(context, boxes[k].label, [left, top, right, bottom]);
  }
  return canvas;
}

function drawLabel(context, text, [left, top, right, bottom]) {
  const { width, height } = context.canvas;
  const size = Math.max(14, Math.round(Math.min(width, height) / 36));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const [wide, tall] = [context.measureText(text).width + size, 1.5 * size];
  const x = Math.max(0, Math.min(left + right > width ? right - wide : left, width - wide));
  const y = top >= tall ? top - tall : Math.min(bottom, height - tall);
  context.fillStyle = "black";
  context.fillRect(x, y, wide, tall);
  context.fillStyle = "white";
  context.textBaseline = "middle";
  context.fillText(text, x + size / 2, y + tall / 2, width);
}
