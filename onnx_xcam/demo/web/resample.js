/**
 * Resizing as the Python package does it: as Pillow, which smooths when it shrinks, or as OpenCV, which does not.
 *
 * The browser's own resizing differs from browser to browser, so none of it is used. Pictures are
 * {data, height, width}: data is Uint8Array or Uint8ClampedArray, RGB, row by row, 3 bytes per pixel.
 */

const CHANNELS = 3;

/**
 * A window of the resized picture.
 *
 * @param image the picture, never changed.
 * @param scaled [height, width] of the whole resized picture. Where they are not whole, its sides are rounded, but its
 * pixels lie as far apart as these numbers say.
 * @param window [top, left, bottom, right] within it. Only Pillow cuts out between pixels; elsewhere the window begins at
 * the nearest one.
 * @param interpolation "nearest", "linear", "cubic", "lanczos" or "area".
 * @param antialias true is Pillow's resize, false is cv2.resize; no meaning for "area".
 */
export function resizeWindow(image, scaled, window, interpolation, antialias) {
  const [top, left, bottom, right] = window;
  const rows = axisOf(image.height, scaled[0], top, bottom);
  const columns = axisOf(image.width, scaled[1], left, right);
  if ([rows, columns].every(({ source, target, first, begin }) => source === target && first === begin)) {
    return separable(image, unchanged(rows), unchanged(columns), pick);
  }
  if (interpolation === "nearest") {
    const rule = antialias ? nearest : corner;
    return separable(image, rule(rows), rule(columns), pick);
  }
  if (interpolation === "area") {
    return area(image, rows, columns);
  }
  return antialias ? pillow(image, rows, columns, PILLOW[interpolation]) : opencv(image, rows, columns, interpolation);
}

/** One axis: the window from `begin` to `end`, of which `first` and `last` are the nearest pixels. */
function axisOf(source, target, begin, end) {
  const first = roundHalfEven(begin);
  return { source, target, begin, end, first, last: first + roundHalfEven(end - begin) };
}

/**
 * Along one axis, for every pixel of the result: the first source pixel that counts, and the weights from there on.
 * @typedef {{start: Int32Array, weights: Float64Array[]}} Taps
 */

function tapsOf({ first, last }, make) {
  const start = new Int32Array(last - first);
  const weights = [];
  for (let i = first; i < last; i++) {
    const [from, values] = make(i);
    start[i - first] = from;
    weights.push(Float64Array.from(values));
  }
  return { start, weights };
}

const unchanged = (axis) => tapsOf(axis, (i) => [i, [1]]);

/** The pixel under the centre: Pillow's rule, which adds up the step, so that rounding decides between two pixels. */
function nearest(axis) {
  const step = axis.source / axis.target;
  let position = step * 0.5;
  for (let i = 0; i < axis.first; i++) position += step;
  return tapsOf(axis, () => {
    const at = Math.min(Math.floor(position), axis.source - 1);
    position += step;
    return [at, [1]];
  });
}

/** The pixel under the upper left corner: the rule of OpenCV's INTER_NEAREST. */
function corner(axis) {
  const step = 1 / (axis.target / axis.source);
  return tapsOf(axis, (i) => [Math.min(Math.floor(i * step), axis.source - 1), [1]]);
}

function pick(image, rows, columns, result) {
  const { data, width } = image;
  let at = 0;
  for (const y of rows.start) {
    for (const x of columns.start) {
      const from = (y * width + x) * CHANNELS;
      result[at++] = data[from];
      result[at++] = data[from + 1];
      result[at++] = data[from + 2];
    }
  }
}

function separable(image, rows, columns, fill) {
  const height = rows.start.length;
  const width = columns.start.length;
  const data = new Uint8ClampedArray(height * width * CHANNELS);
  fill(image, rows, columns, data);
  return { data, height, width };
}

// --- Pillow: filters that widen when they shrink, 22-bit fixed point, rounded between the two passes -----------------

const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

function cubicFilter(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

const PILLOW = {
  linear: { support: 1, filter: (x) => Math.max(0, 1 - Math.abs(x)) },
  cubic: { support: 2, filter: cubicFilter },
  lanczos: { support: 3, filter: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};
const PILLOW_BITS = 22;

function pillowTaps({ source, target, first, last, ...window }, { support, filter }) {
  // Pillow is told the window as a box in the source, in single precision.
  const begin = Math.fround((window.begin * source) / target);
  const end = Math.fround(Math.min((window.end * source) / target, source));
  const scale = Math.fround(end - begin) / (last - first);
  const widened = Math.max(1, scale);
  const reach = support * widened;
  return tapsOf({ first: 0, last: last - first }, (i) => {
    const centre = begin + (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - reach + 0.5));
    const high = Math.min(source, Math.trunc(centre + reach + 0.5));
    const weights = [];
    let sum = 0;
    for (let x = low; x < high; x++) {
      weights.push(filter((x - centre + 0.5) * (1 / widened)));
      sum += weights.at(-1);
    }
    const one = 2 ** PILLOW_BITS;
    return [low, weights.map((w) => Math.trunc((sum ? w / sum : w) * one + (w < 0 ? -0.5 : 0.5)))];
  });
}

function pillow(image, rows, columns, filter) {
  const whole = ({ source, target, begin, end }) => begin === 0 && end === target && source === target;
  const across = (picture) => (whole(columns) ? picture : shrinkColumns(picture, pillowTaps(columns, filter)));
  const down = (picture) => (whole(rows) ? picture : shrinkRows(picture, pillowTaps(rows, filter)));
  // Since version 13: rows first where they lose more than twice what the columns lose, counted in the whole photo.
  const [lost, lostAcross] = [rows, columns].map((axis) => axis.source - (axis.last - axis.first));
  return lost > 0 && lost > 2 * lostAcross ? across(down(image)) : down(across(image));
}

/** Weighted sums of whole numbers along the rows, rounded to bytes. */
function shrinkColumns(image, taps) {
  const { data, height, width } = image;
  const half = 2 ** (PILLOW_BITS - 1);
  const made = new Uint8ClampedArray(height * taps.start.length * CHANNELS);
  for (let i = 0; i < taps.start.length; i++) {
    const weights = taps.weights[i];
    for (let y = 0; y < height; y++) {
      let at = (y * width + taps.start[i]) * CHANNELS;
      let [r, g, b] = [half, half, half];
      for (const weight of weights) {
        r += data[at++] * weight;
        g += data[at++] * weight;
        b += data[at++] * weight;
      }
      const to = (y * taps.start.length + i) * CHANNELS;
      made[to] = r >> PILLOW_BITS;
      made[to + 1] = g >> PILLOW_BITS;
      made[to + 2] = b >> PILLOW_BITS;
    }
  }
  return { data: made, height, width: taps.start.length };
}

function shrinkRows(image, taps) {
  const stride = image.width * CHANNELS;
  const half = 2 ** (PILLOW_BITS - 1);
  const made = new Uint8ClampedArray(taps.start.length * stride);
  for (let i = 0; i < taps.start.length; i++) {
    const weights = taps.weights[i];
    for (let x = 0; x < stride; x++) {
      let sum = half;
      let at = taps.start[i] * stride + x;
      for (const weight of weights) {
        sum += image.data[at] * weight;
        at += stride;
      }
      made[i * stride + x] = sum >> PILLOW_BITS;
    }
  }
  return { data: made, height: taps.start.length, width: image.width };
}

// --- OpenCV: always the same few neighbours, rounded only at the end -------------------------------------------------

const OPENCV_BITS = 11; // of the weights of "linear" and "lanczos"; those of "cubic" are not rounded

const rounded = (weight) => roundHalfEven(weight * 2 ** OPENCV_BITS);

const OPENCV = {
  linear: { taps: 2, weights: (t) => [1 - t, t].map(rounded), fill: blendTwo },
  cubic: { taps: 4, weights: opencvCubic, fill: (...args) => weighted(...args, 1) },
  lanczos: {
    taps: 8,
    weights: (t) => opencvLanczos(t).map(rounded),
    fill: (...args) => weighted(...args, 2 ** (-2 * OPENCV_BITS)),
  },
};

function opencvCubic(t) {
  const a = -0.75;
  const outer = (x) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  const inner = (x) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const weights = [outer(t + 1), inner(t), inner(1 - t)];
  return [...weights, 1 - weights[0] - weights[1] - weights[2]];
}

function opencvLanczos(t) {
  const weights = Array.from({ length: 8 }, (_, i) => sinc(t + 3 - i) * sinc((t + 3 - i) / 4));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / sum);
}

/** Taps that may begin before, and end beyond, the picture; `within` then takes its outermost pixel. */
function opencvTaps(axis, { taps, weights }, place) {
  return tapsOf(axis, (i) => {
    const [low, part] = place(i, axis);
    return [low - (taps / 2 - 1), weights(part)];
  });
}

const within = (index, length) => Math.min(length - 1, Math.max(0, index));

/** The centre of pixel i in the source: the pixel below it, and how far it is from there to the next. */
function centre(i, { source, target }) {
  const at = Math.fround((i + 0.5) * (source / target) - 0.5);
  const low = Math.floor(at);
  return [low, Math.fround(at - low)];
}

const twice = (axis) => axis.source === 2 * axis.target;

function opencv(image, rows, columns, interpolation) {
  if (interpolation === "linear" && twice(rows) && twice(columns)) return area(image, rows, columns);
  const kind = OPENCV[interpolation];
  return separable(image, opencvTaps(rows, kind, centre), opencvTaps(columns, kind, centre), kind.fill);
}

/** For each row of the result, what `make` makes of the source rows that it needs, each resized along the row. */
function rowByRow(image, rows, columns, result, make) {
  const width = columns.start.length * CHANNELS;
  const lines = new Map();
  const line = (y) => {
    if (!lines.has(y)) lines.set(y, weightedLine(image, y, columns));
    return lines.get(y);
  };
  for (let i = 0; i < rows.start.length; i++) {
    for (const y of lines.keys()) if (y < rows.start[i]) lines.delete(y);
    const used = Array.from(rows.weights[i], (_, k) => line(within(rows.start[i] + k, image.height)));
    make(used, rows.weights[i], result.subarray(i * width, (i + 1) * width));
  }
}

/** The sum over all taps of rows and columns, rounded once. */
function weighted(image, rows, columns, result, scale) {
  rowByRow(image, rows, columns, result, (lines, weights, made) => {
    for (let x = 0; x < made.length; x++) {
      let sum = 0;
      for (let k = 0; k < lines.length; k++) sum += lines[k][x] * weights[k];
      made[x] = sum * scale; // a clamped array rounds, half to even
    }
  });
}

/** OpenCV's blend of two rows, which drops bits on the way. */
function blendTwo(image, rows, columns, result) {
  rowByRow(image, rows, columns, result, (lines, weights, made) => {
    for (let x = 0; x < made.length; x++) {
      let sum = 2;
      for (let k = 0; k < lines.length; k++) sum += ((lines[k][x] >> 4) * weights[k]) >> 16;
      made[x] = sum >> 2;
    }
  });
}

/** A row of the picture, resized along the row, not rounded. */
function weightedLine({ data, width }, y, columns) {
  const made = new Float64Array(columns.start.length * CHANNELS);
  for (let i = 0; i < columns.start.length; i++) {
    for (let k = 0; k < columns.weights[i].length; k++) {
      const from = (y * width + within(columns.start[i] + k, width)) * CHANNELS;
      const weight = columns.weights[i][k];
      for (let c = 0; c < CHANNELS; c++) made[i * CHANNELS + c] += data[from + c] * weight;
    }
  }
  return made;
}

/** OpenCV's INTER_AREA: each pixel's mean over what it covers; where an axis grows, linear with hard steps. */
function area(image, rows, columns) {
  if (rows.source < rows.target || columns.source < columns.target) {
    const [y, x] = [rows, columns].map((axis) => opencvTaps(axis, OPENCV.linear, step));
    return separable(image, y, x, blendTwo);
  }
  return separable(image, coverage(rows), coverage(columns), twice(rows) && twice(columns) ? meanOfFour : mean);
}

function step(i, { source, target }) {
  const low = Math.floor(i * (source / target));
  const part = Math.fround(i + 1 - (low + 1) * (target / source));
  return [low, part <= 0 ? 0 : part - Math.floor(part)];
}

function coverage(axis) {
  const scale = axis.source / axis.target;
  return tapsOf(axis, (i) => {
    const begin = i * scale;
    const end = Math.min(begin + scale, axis.source);
    const low = Math.floor(begin + 1e-9);
    const weights = [];
    for (let x = low; x < end - 1e-9; x++) weights.push((Math.min(x + 1, end) - Math.max(x, begin)) / (end - begin));
    return [low, weights];
  });
}

const mean = (...args) => weighted(...args, 1);

/** Halves go up, here only. */
function meanOfFour(image, rows, columns, result) {
  rowByRow(image, rows, columns, result, ([above, below], _, made) => {
    for (let x = 0; x < made.length; x++) made[x] = Math.floor((above[x] + below[x]) / 2 + 0.5);
  });
}

/** Python's round(): halves go to the even neighbour. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  const part = value - low;
  if (part !== 0.5) return part < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}
