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
 * begins ([top, left], negative where the input is padded).
 */
export function placement(photo, input, preprocess) {
  const working = input.map((side) => Math.max(side, Math.floor(side / preprocess.crop_fraction + 1e-6)));
  // Ratios as fractions: a rounded one would now and then miss by a pixel.
  let ratios = working.map((side, axis) => ({ top: side, bottom: photo[axis] }));
  const [y, x] = ratios;
  const yIsLarger = y.top * x.bottom > x.top * y.bottom;
  if (preprocess.resize === "crop") ratios = yIsLarger ? [y, y] : [x, x];
  if (preprocess.resize === "letterbox") ratios = yIsLarger ? [x, x] : [y, y];
  const scaled = ratios.map(({ top, bottom }, axis) => {
    const product = photo[axis] * top;
    const rest = product % bottom;
    const whole = (product - rest) / bottom;
    const up = preprocess.resize === "letterbox" && (2 * rest > bottom || (2 * rest === bottom && whole % 2 === 1));
    return Math.max(1, whole + (up ? 1 : 0));
  });
  const offset = scaled.map((side, axis) => {
    const spare = side - input[axis];
    return spare > 0 ? roundHalfEven(spare / 2) : -Math.floor(-spare / 2);
  });
  return { photo, input, scaled, offset };
}

/** What each pixel value 0..255 becomes, for each channel, in the input's type. */
export function valueTable(input, preprocess) {
  const count = preprocess.channels === "GRAY" ? 1 : 3;
  const { mean, std, scale } = preprocess;
  return Array.from({ length: count }, (_, channel) => {
    const [m, s] = [mean, std].map((values) => values[values.length === 1 ? 0 : channel]);
    const table = new ARRAYS[input.dtype](256);
    for (let pixel = 0; pixel < 256; pixel++) {
      const exact = (pixel * scale - m) / s;
      if (input.dtype === "float16") table[pixel] = float16Bits(exact);
      else if (input.dtype.startsWith("float")) table[pixel] = exact;
      else if (input.dtype.endsWith("64")) table[pixel] = BigInt(roundHalfEven(exact));
      else table[pixel] = roundHalfEven(exact);
    }
    return table;
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
  const pixels = layIn(image, laid, preprocess);
  const table = valueTable(input, preprocess);
  const order = preprocess.channels === "BGR" ? [2, 1, 0] : [0, 1, 2];
  const count = table.length;
  const size = target[0] * target[1];
  const first = input.layout === "NCHW";
  const data = new table[0].constructor(batch * size * count);
  for (let channel = 0; channel < count; channel++) {
    const values = table[channel];
    for (let i = 0; i < size; i++) {
      const pixel = count === 1 ? grey(pixels, 3 * i) : pixels[3 * i + order[channel]];
      data[first ? channel * size + i : i * count + channel] = values[pixel];
    }
  }
  for (let n = 1; n < batch; n++) data.copyWithin(n * size * count, 0, size * count);
  return { data, dims: first ? [batch, count, ...target] : [batch, ...target, count], placement: laid };
}

/** Scale the photo and cut out, or pad to, the input. */
function layIn(image, { input, scaled, offset }, preprocess) {
  const [top, left] = offset.map((o) => Math.max(0, o));
  const [bottom, right] = offset.map((o, axis) => Math.min(scaled[axis], o + input[axis]));
  const window = [top, left, bottom, right];
  const part = resizeWindow(image, scaled, window, preprocess.interpolation, preprocess.antialias);
  const canvas = new Uint8ClampedArray(input[0] * input[1] * 3).fill(preprocess.pad_value);
  for (let y = 0; y < part.height; y++) {
    const row = part.data.subarray(y * part.width * 3, (y + 1) * part.width * 3);
    canvas.set(row, ((y + top - offset[0]) * input[1] + left - offset[1]) * 3);
  }
  return canvas;
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
