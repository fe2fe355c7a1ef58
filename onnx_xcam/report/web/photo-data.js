/** A photo's data as the page holds it: a block of JSON, read when the photo is looked at. */

/** The data of a photo of the list, the bitmap among them. */
export async function readPhotoData(item) {
  const stated = JSON.parse(item.querySelector("script").textContent);
  const [, kind, data] = /^data:(.*);base64,(.*)$/.exec(stated.image);
  const blob = new Blob([bytesOf(data)], { type: kind });
  return { ...stated, bitmap: await createImageBitmap(blob, { colorSpaceConversion: "none" }) };
}

/** The map of the k-th class as {data, height, width}: numbers, row by row. */
export function mapOf({ dims, step, data }, k) {
  const [, height, width] = dims;
  const size = height * width;
  const { buffer } = bytesOf(data);
  if (step === null) return { data: new Float32Array(buffer).subarray(k * size, (k + 1) * size), height, width };
  const steps = new Int16Array(buffer).subarray(k * size, (k + 1) * size);
  return { data: Float32Array.from(steps, (value) => value * step), height, width };
}

export function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
