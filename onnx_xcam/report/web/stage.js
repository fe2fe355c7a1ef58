/** The photo with the map over it, the values under the pointer, and the scale. */

import { cellAt, cellBox, cellsOnPhoto } from "./cells.js";
import { dim, heatLayer, place, scale, scaleSigned, setOff } from "./heatmap.js";
import { percent, told } from "./numbers.js";

const HINT = "Point at the photo, or move with the arrow keys, to read the map's values.";
const TINY = 200; // pixels: what is drawn of fewer shows its pixels

export class Stage {
  /** @param parts {stage, picture, cell, probe, scale, mark, least, most, reading, spoken}: elements. */
  constructor(parts) {
    Object.assign(this, parts);
    [this.heat, this.behind] = [document.createElement("canvas"), document.createElement("canvas")];
    this.at = null; // [row, column] of the value that is read
    this.probe.addEventListener("pointermove", (event) => this.point(event));
    this.probe.addEventListener("pointerdown", (event) => this.point(event));
    this.probe.addEventListener("pointerleave", () => this.read(null));
    this.probe.addEventListener("keydown", (event) => this.key(event));
    this.probe.addEventListener("blur", () => this.read(null));
  }

  /** Show a photo without a map. */
  showPhoto(photo) {
    Object.assign(this, { photo, map: null });
    this.size(photo.bitmap);
    this.heat.getContext("2d").clearRect(0, 0, this.heat.width, this.heat.height);
    this.layBehind(photo.bitmap, false);
    this.paint(this.opacity ?? 0.75);
    this.read(null, null, "");
  }

  /** Give all canvases the size of a bitmap, which empties them. */
  size({ height, width }) {
    this.stage.style.setProperty("--ratio", width / height);
    for (const canvas of [this.picture, this.heat, this.behind]) [canvas.height, canvas.width] = [height, width];
    this.picture.classList.toggle("tiny", Math.max(height, width) < TINY);
  }

  /**
   * Show a map over a photo.
   *
   * @param photo {bitmap, placement, size}: size is the photo's own [height, width], which may be larger.
   * @param map {data, height, width}. @param colours 256 colours, 3 bytes each.
   * @param fine whether the map is of the kind that is seen on dark grey only.
   * @param limit where it is cut off, above and below 0, to be drawn; null if it is not.
   */
  show({ photo, map, signed, fine, limit, colours }) {
    Object.assign(this, { photo, map, signed });
    const { bitmap, placement } = photo;
    const size = [bitmap.height, bitmap.width];
    this.size(bitmap);
    this.layBehind(bitmap, fine);
    this.placed = place(limit === null ? map : { ...map, data: cut(map.data, limit) }, placement, size);
    const heat = signed ? scaleSigned(this.placed) : scale(this.placed, size);
    this.heat.getContext("2d").putImageData(heatLayer(heat, size, colours, signed), 0, 0);
    this.paint(this.opacity ?? 0.75);
    this.tellScale(colours);
    this.read(this.at && this.within(this.at) ? this.at : null);
  }

  /** Draw, the hottest pixels with this opacity, 0..1. */
  paint(opacity) {
    this.opacity = opacity;
    const { bitmap, placement } = this.photo;
    const context = this.picture.getContext("2d");
    context.globalAlpha = 1;
    context.drawImage(opacity > 0 ? this.behind : bitmap, 0, 0);
    context.globalAlpha = opacity;
    context.drawImage(this.heat, 0, 0);
    context.globalAlpha = 1;
    setOff(context, placement, [bitmap.height, bitmap.width]);
  }

  /** What the map is drawn on: the photo, or, where the map is fine, the photo in dark grey. */
  layBehind(bitmap, fine) {
    const context = this.behind.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    if (!fine) return;
    const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
    dim(pixels);
    context.putImageData(pixels, 0, 0);
  }

  /** The values that the ends of the colours stand for. */
  get ends() {
    const { least, most } = this.placed;
    if (least > most) return [null, null]; // nothing is finite
    const largest = Math.max(Math.abs(least), Math.abs(most));
    return this.signed ? [-largest, largest] : [least, most];
  }

  tellScale(colours) {
    const [least, most] = this.ends;
    this.least.textContent = this.signed ? `against ${told(least)}` : told(least);
    this.most.textContent = this.signed ? `${told(most)} for` : told(most);
    const stops = Array.from({ length: 17 }, (_, i) => colours.subarray(3 * Math.round((255 * i) / 16)).slice(0, 3));
    this.scale.style.background = `linear-gradient(90deg, ${stops.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
    this.scale.setAttribute("aria-label", `The colours go from ${told(least)} to ${told(most)}.`);
  }

  // --- reading values ------------------------------------------------------------------------------------------------

  /** Where on the photo a pointer is: [y, x], 0..1 from edge to edge. */
  placeOf(event) {
    const box = this.probe.getBoundingClientRect();
    return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
  }

  /** The middle of the value that is read, as a place on the photo, or null. */
  get readAt() {
    if (!this.at) return null;
    const [top, left, bottom, right] = cellBox(this.map, this.photo.placement, this.at);
    return [(top + bottom) / 2, (left + right) / 2];
  }

  point(event) {
    if (!this.map) return;
    const point = this.placeOf(event);
    const cell = cellAt(this.map, this.photo.placement, point);
    if (cell) this.read(cell, point);
    else this.read(null, null, "The model did not see this part of the photo.");
  }

  within([row, column]) {
    return row < this.map.height && column < this.map.width;
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!this.map) return;
    if (event.key === "Escape") this.read(null);
    else if (event.key === "Home" || event.key === "End") this.read(this.extreme(event.key === "Home" ? 1 : -1));
    else if (event.key in steps) {
      const bounds = cellsOnPhoto(this.map, this.photo.placement);
      const move = (index, axis) =>
        Math.min(bounds[axis][1], Math.max(bounds[axis][0], index + steps[event.key][axis]));
      this.read(this.at ? this.at.map(move) : this.extreme(1));
    } else return;
    event.preventDefault();
    this.spoken.textContent = this.reading.textContent;
  }

  /** The largest value's place on the photo, or with -1 the smallest's. */
  extreme(sign) {
    const [[top, bottom], [left, right]] = cellsOnPhoto(this.map, this.photo.placement);
    let best = [top, left];
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        if (sign * (this.value([row, column]) - this.value(best)) > 0) best = [row, column];
      }
    }
    return best;
  }

  value([row, column]) {
    return this.map.data[row * this.map.width + column];
  }

  /** Tell a value, and where it is; without one, `instead`. */
  read(cell, point = null, instead = HINT) {
    this.at = cell;
    this.cell.hidden = this.mark.hidden = !cell;
    if (!cell) {
      this.reading.textContent = this.map ? instead : "";
      return;
    }
    const [top, left, bottom, right] = cellBox(this.map, this.photo.placement, cell);
    const [y, x] = point ?? [(top + bottom) / 2, (left + right) / 2];
    const sides = { top, left, height: bottom - top, width: right - left };
    for (const [side, fraction] of Object.entries(sides)) this.cell.style[side] = `${100 * fraction}%`;
    const value = this.value(cell);
    const [least, most] = this.ends;
    const along = most > least ? (value - least) / (most - least) : 0.5;
    this.mark.hidden = !Number.isFinite(value);
    this.mark.style.left = `${100 * Math.min(1, Math.max(0, along))}%`;
    const strong = document.createElement("b");
    strong.textContent = told(value);
    const largest = this.map.data.reduce((so, one) => (Number.isFinite(one) ? Math.max(so, Math.abs(one)) : so), 0);
    const share = largest > 0 && Number.isFinite(value) ? ` (${percent(value / largest)} of the largest)` : "";
    const [height, width] = this.photo.size;
    const pixel = `x ${Math.min(width - 1, Math.floor(x * width))}, y ${Math.min(height - 1, Math.floor(y * height))}`;
    const where = `row ${cell[0]}, column ${cell[1]} of ${this.map.height} × ${this.map.width}`;
    this.reading.replaceChildren("Value ", strong, `${share} · ${where} · photo ${pixel}`);
  }
}

const cut = (data, limit) => data.map((value) => Math.min(limit, Math.max(-limit, value)));
