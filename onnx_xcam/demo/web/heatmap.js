/** A map laid over the photo, as onnx_xcam draws it in Python. Sizes are [height, width]. */

const BEHIND = 0.4; // of the light of a photo stays where it is dimmed

/** For each pixel centre of `length` along an axis: its place in the model's input, 0..1 from edge to edge. */
function places({ input, scaled, offset }, axis, length) {
  return Float64Array.from(
    { length },
    (_, i) => ((i + 0.5) * (scaled[axis] / length) - offset[axis]) / input[axis],
  );
}

/** First and last-but-one index of the pixels that the model saw along an axis. */
function inside(place) {
  const first = place.findIndex((p) => p >= 0 && p <= 1);
  const last = place.findLastIndex((p) => p >= 0 && p <= 1);
  return [Math.max(0, first), last + 1];
}

/** Which rectangle of a picture of this size the model saw: [top, left, bottom, right]. */
export function seenBox(placement, size) {
  const [[top, bottom], [left, right]] = [0, 1].map((axis) => inside(places(placement, axis, size[axis])));
  return [top, left, bottom, right];
}

/** Neighbours and weight of linear interpolation at each place; beyond the outer centres they hold. */
function steps(place, count) {
  return Array.from(place, (p) => {
    const at = Math.min(Math.max(p * count - 0.5, 0), count - 1);
    const low = Math.floor(at);
    return [low, Math.min(low + 1, count - 1), at - low];
  });
}

/**
 * The raw map {data, height, width} on a picture of `size`, resized but not scaled: {values, box, least, most}.
 * `values` is a Float32Array, row by row, 0 outside of `box`, which is what the model saw; `least` and `most` are the
 * extremes of what is finite there, or Infinity and -Infinity.
 */
export function place(map, placement, size) {
  const box = seenBox(placement, size);
  const [top, left, bottom, right] = box;
  const rows = steps(places(placement, 0, size[0]), map.height);
  const columns = steps(places(placement, 1, size[1]), map.width);
  const values = new Float32Array(size[0] * size[1]);
  let [least, most] = [Infinity, -Infinity];
  for (let y = top; y < bottom; y++) {
    const [above, below, down] = rows[y];
    for (let x = left; x < right; x++) {
      const [before, after, along] = columns[x];
      const upper = mix(map.data, above * map.width + before, above * map.width + after, along);
      const lower = mix(map.data, below * map.width + before, below * map.width + after, along);
      const value = upper + down * (lower - upper);
      values[y * size[1] + x] = value;
      if (!Number.isFinite(value)) continue;
      least = Math.min(least, value);
      most = Math.max(most, value);
    }
  }
  return { values, box, least, most };
}

/**
 * A placed map scaled to 0..1 over what the model saw, 0 elsewhere. A map without differences is 0 or 1 everywhere;
 * what is not finite counts as 0.
 */
export function scale({ values, box: [top, left, bottom, right], least, most }, size) {
  const heat = new Float32Array(values.length);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const at = y * size[1] + x;
      if (!Number.isFinite(values[at])) continue;
      if (most > least) heat[at] = (values[at] - least) / (most - least);
      else heat[at] = most > 0 ? 1 : 0;
    }
  }
  return heat;
}

/** A placed map of both signs divided by its largest size: -1..1, 0 where it is 0 or not finite. */
export function scaleSigned({ values, least, most }) {
  const largest = Math.max(Math.abs(least), Math.abs(most));
  return values.map((value) => (Number.isFinite(value) && largest > 0 ? value / largest : 0));
}

/** The raw map on a picture of `size`, scaled to 0..1: what Python's `Placement.heatmap` is. */
export function heatmap(map, placement, size) {
  return scale(place(map, placement, size), size);
}

function mix(data, from, to, part) {
  return data[from] + part * (data[to] - data[from]);
}

/** 0 where it is cold, 1 from a heat of 0.6 on, smooth between, so that the photo stays readable. */
function opacity(heat) {
  const x = Math.min(Math.max(heat / 0.6, 0), 1);
  return x * x * (3 - 2 * x);
}

/**
 * The layer over the photo: a heat map in colours, its opacity rising with the heat, as ImageData.
 * @param colours 256 colours, 3 bytes each.
 * @param signed heat is in -1..1, and the opacity rises with its size.
 */
export function heatLayer(heat, size, colours, signed = false) {
  const layer = new ImageData(size[1], size[0]);
  for (let i = 0; i < heat.length; i++) {
    const level = Math.round((signed ? (heat[i] + 1) / 2 : heat[i]) * 255);
    layer.data.set(colours.subarray(3 * level, 3 * level + 3), 4 * i);
    layer.data[4 * i + 3] = Math.round(255 * opacity(signed ? Math.abs((2 * level) / 255 - 1) : level / 255));
  }
  return layer;
}

/** Make a picture dark grey, in place: what fine, scattered heat is seen on. */
export function dim({ data }) {
  for (let i = 0; i < data.length; i += 4) {
    const grey = Math.round(0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2]);
    data[i] = data[i + 1] = data[i + 2] = Math.round(grey * BEHIND);
  }
}

/** Dim what the model did not see, and frame what it saw. */
export function setOff(context, placement, size) {
  const [top, left, bottom, right] = seenBox(placement, size);
  const [height, width] = size;
  context.fillStyle = "rgb(0 0 0 / 35%)";
  context.fillRect(0, 0, width, top);
  context.fillRect(0, bottom, width, height - bottom);
  context.fillRect(0, top, left, bottom - top);
  context.fillRect(right, top, width - right, bottom - top);
  const thick = Math.max(1, Math.round(Math.min(height, width) / 300));
  context.fillStyle = "white";
  if (top > 0) context.fillRect(left, top, right - left, thick);
  if (bottom < height) context.fillRect(left, bottom - thick, right - left, thick);
  if (left > 0) context.fillRect(left, top, thick, bottom - top);
  if (right < width) context.fillRect(right - thick, top, thick, bottom - top);
}
