/**
 * From a photo's pixels to the model's input, as onnx_xcam does it in Python:
 *
 *     x = (pixel * scale - mean) / std        pixel 0..255, channel by channel
 *
 * `input` and `preprocess` are those of model.json. Sizes are [height, width].
 */

import { resizeWindow, roundHalfEven } from "./resample.js";

const GREY = [0.299, 0.587, 0.114];

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array, // its bits
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  uint32: Uint32Array,
  int32: Int32Array,
  uint64: BigUint64Array,
  int64: BigInt64Array,
};

/**
 * How a photo is laid into the model's input: the size of the whole photo after scaling, and where in it the input
 * begins ([top, left], negative where the input is padded). `part` is the part of the photo, [top, left, bottom, right],
 * that is cut out of it before it is scaled, or null.
 */
export function placement(photo, input, preprocess) {
  if (preprocess.crop_first) return ofPart(photo, input, partOf(photo, input, preprocess));
  const { resize, resize_size, crop_fraction, size_rounding } = preprocess;
  const working = resize_size ?? input.map((side) => Math.max(side, Math.floor(side / crop_fraction + 1e-6)));
  // Ratios as fractions: a rounded one would now and then miss by a pixel.
  let ratios = working.map((side, axis) => ({ top: side, bottom: photo[axis] }));
  const [y, x] = ratios;
  const yIsLarger = y.top * x.bottom > x.top * y.bottom;
  if (resize === "crop") ratios = yIsLarger ? [y, y] : [x, x];
  if (resize === "letterbox") ratios = yIsLarger ? [x, x] : [y, y];
  const rounding = size_rounding ?? (resize === "letterbox" ? "round" : "floor");
  const scaled = ratios.map(({ top, bottom }, axis) => {
    const product = photo[axis] * top;
    if (rounding === "exact") return Math.max(1, product / bottom);
    const rest = product % bottom;
    const whole = (product - rest) / bottom;
    const up = rounding === "round" && (2 * rest > bottom || (2 * rest === bottom && whole % 2 === 1));
    return Math.max(1, whole + (up ? 1 : 0));
  });
  const offset = scaled.map((side, axis) => offsetOf(side, input[axis], preprocess));
  return { photo, input, scaled, offset, part: null };
}

/** Where the input begins in the scaled photo along an axis; a negative number is the border before it. */
function offsetOf(exactly, target, { align, offset_rounding, size_rounding, antialias, interpolation }) {
  // Only Pillow's filters cut out between two pixels.
  const between = antialias && interpolation !== "area" && interpolation !== "nearest";
  if (size_rounding === "exact" && between && exactly > target) return (exactly - target) / 2;
  const scaled = roundHalfEven(exactly);
  if (align === "start" && scaled <= target) return 0;
  const spare = scaled - target;
  if (spare <= 0) return -Math.floor(-spare / 2);
  return offset_rounding === "floor" ? Math.floor(spare / 2) : roundHalfEven(spare / 2);
}

/** The part of the photo that `crop_first` cuts out. */
function partOf(photo, input, { resize, crop_fraction, offset_rounding }) {
  const axis = photo[0] * input[1] <= photo[1] * input[0] ? 0 : 1; // the one that limits the part
  const largest = resize === "crop" ? input.map((side) => Math.floor((side * photo[axis]) / input[axis])) : photo;
  const sides = largest.map((side) => Math.max(1, Math.floor(side * crop_fraction + 1e-6)));
  const begin = offset_rounding === "floor" ? Math.floor : roundHalfEven;
  const [top, left] = sides.map((side, at) => begin((photo[at] - side) / 2));
  return [top, left, top + sides[0], left + sides[1]];
}

/** The placement of a part that is cut out of a photo, and then scaled to the input. */
function ofPart(photo, input, part) {
  const [top, left, bottom, right] = part;
  const [y, x] = [input[0] / (bottom - top), input[1] / (right - left)];
  return { photo, input, scaled: [photo[0] * y, photo[1] * x], offset: [top * y, left * x], part };
}

/** What pixel values become, for each channel, in the input's type. */
function valuesOf(pixels, input, preprocess) {
  const count = preprocess.channels === "GRAY" ? 1 : 3;
  const { mean, std, scale } = preprocess;
  return Array.from({ length: count }, (_, channel) => {
    const [m, s] = [mean, std].map((values) => values[values.length === 1 ? 0 : channel]);
    return ARRAYS[input.dtype].from(pixels[channel] ?? pixels[0], (pixel) => {
      const exact = (pixel * scale - m) / s;
      if (input.dtype === "float16") return float16Bits(exact);
      if (input.dtype.startsWith("float")) return exact;
      return input.dtype.endsWith("64") ? BigInt(roundHalfEven(exact)) : roundHalfEven(exact);
    });
  });
}

/**
 * One photo as the model takes it.
 *
 * @param image {data, height, width}, RGB, 3 bytes per pixel.
 * @param input {dtype, layout, height, width} of the model.
 * @returns {{data, dims, placement}}: data has room for `batch` images, all of them this one.
 */
export function preprocessImage(image, input, preprocess, batch = 1) {
  const target = [input.height, input.width];
  const laid = placement([image.height, image.width], target, preprocess);
  const { part, top, left } = layIn(image, laid, preprocess);
  const table = valuesOf([Array.from({ length: 256 }, (_, pixel) => pixel)], input, preprocess);
  const borders = valuesOf([preprocess.pad_value].flat().map((value) => [value]), input, preprocess);
  const order = preprocess.channels === "BGR" ? [2, 1, 0] : [0, 1, 2];
  const count = table.length;
  const size = target[0] * target[1];
  const first = input.layout === "NCHW";
  const data = new table[0].constructor(batch * size * count);
  for (let channel = 0; channel < count; channel++) {
    const values = table[channel];
    const at = (i) => (first ? channel * size + i : i * count + channel);
    if (part.height < target[0] || part.width < target[1]) {
      for (let i = 0; i < size; i++) data[at(i)] = borders[channel][0];
    }
    for (let y = 0, from = 0; y < part.height; y++) {
      for (let x = 0, to = (y + top) * target[1] + left; x < part.width; x++, to++, from += 3) {
        data[at(to)] = values[count === 1 ? grey(part.data, from) : part.data[from + order[channel]]];
      }
    }
  }
  for (let n = 1; n < batch; n++) data.copyWithin(n * size * count, 0, size * count);
  return { data, dims: first ? [batch, count, ...target] : [batch, ...target, count], placement: laid };
}

/** Scale the photo, and say where what is seen of it lies in the input: {part: {data, height, width}, top, left}. */
function layIn(image, laid, { interpolation, antialias }) {
  const cut = laid.part ? cutOut(image, laid.part) : image;
  const scaled = laid.part ? laid.input : laid.scaled;
  const offset = laid.part ? [0, 0] : laid.offset;
  const [top, left] = offset.map((o) => Math.max(0, o));
  const [bottom, right] = offset.map((o, axis) => {
    const end = o + laid.input[axis];
    return end <= scaled[axis] ? end : roundHalfEven(scaled[axis]);
  });
  const part = resizeWindow(cut, scaled, [top, left, bottom, right], interpolation, antialias);
  return { part, top: roundHalfEven(top - offset[0]), left: roundHalfEven(left - offset[1]) };
}

/** A part of a picture, as a picture of its own. */
function cutOut({ data, width }, [top, left, bottom, right]) {
  const made = new Uint8Array((bottom - top) * (right - left) * 3);
  for (let y = top; y < bottom; y++) {
    made.set(data.subarray((y * width + left) * 3, (y * width + right) * 3), (y - top) * (right - left) * 3);
  }
  return { data: made, height: bottom - top, width: right - left };
}

function grey(pixels, at) {
  return roundHalfEven(pixels[at] * GREY[0] + pixels[at + 1] * GREY[1] + pixels[at + 2] * GREY[2]);
}

/** The bits of the nearest half-precision number, halves to even. */
export function float16Bits(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === 0) return sign;
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  const steps = roundHalfEven(size / 2 ** (exponent - 10)); // 1024 to 2048, less where the number is subnormal
  return sign + (exponent + 14) * 1024 + steps;
}
