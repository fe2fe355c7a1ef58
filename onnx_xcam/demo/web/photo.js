/** A photo's pixels, as the file holds them: upright, without colour management, laid over white. */

const MOST_PIXELS = 2 ** 26;

/**
 * @param file a File or Blob.
 * @param wantsFileValues whether the model takes the file's own values, also those of more than 8 bits.
 * @returns {{bitmap: ImageBitmap, image: {data: Uint8Array, height, width}}}: the second is RGB, 3 bytes per pixel.
 */
export async function readPhoto(file, wantsFileValues = false) {
  const name = file.name ? `“${file.name}”` : "What was pasted";
  if (!file.size) throw new Error(`${name} is empty.`);
  if (wantsFileValues && (await isDeepPng(file))) {
    throw new Error(
      `${name} holds 16 bits per channel, which the model wants as they are, and a browser gives 8 of them; ` +
        "the command “onnx-xcam explain” gives the model all of them.",
    );
  }
  let bitmap;
  try {
    // Turned as EXIF says; the file's own values, as in Python, where colour profiles are not applied either.
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error(
      `${name} is not a picture that this browser can read, or a damaged one; JPEG, PNG and WebP work everywhere. ` +
        "TIFF, DICOM and .npy files are read by the command “onnx-xcam explain”.",
    );
  }
  const { height, width } = bitmap;
  if (height * width > MOST_PIXELS) {
    throw new Error(`${name} has ${width} × ${height} pixels, too many for a web page; scale it down first.`);
  }
  try {
    return { bitmap, image: { data: pixelsOf(bitmap), height, width } };
  } catch (error) {
    throw new Error(`${name} could not be drawn: ${error.message}`);
  }
}

/** Tell whether a file is a PNG of 16 bits per channel, by the header that every PNG begins with. */
async function isDeepPng(file) {
  const start = new Uint8Array(await file.slice(0, 25).arrayBuffer());
  return "\x89PNG".split("").every((sign, at) => start[at] === sign.charCodeAt(0)) && start[24] === 16;
}

function pixelsOf(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  requireHonest(canvas.constructor);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  return rgb;
}

/** Some browsers, to hide who is asking, give other pixels than were drawn. */
function requireHonest(Canvas) {
  const context = new Canvas(16, 16).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "rgb(10 120 230)";
  context.fillRect(0, 0, 16, 16);
  const { data } = context.getImageData(0, 0, 16, 16);
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== 10 || data[i + 1] !== 120 || data[i + 2] !== 230) {
      throw new Error("this browser changes the pixels that pages read, to protect you; allow this page to read them.");
    }
  }
}
