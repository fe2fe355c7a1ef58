/**
 * Explain a photo with an instrumented model, in Node: no Python, no framework.
 *
 *     node explain.js MODEL PHOTO [CLASS ...] [--object N ...] [--preprocess FILE] [--labels FILE] [--out DIR]
 *
 * Prints a line of JSON for each class, with the raw map, and writes what the model saw with the heat map over it. A
 * class is a number or a label; -1 is the model's best class, -2 the second best. Without one: the best three.
 *
 * A detector explains objects: a line for each, with its box in the photo's pixels. -1 is the best object, -2 the second
 * best, 0 and above a candidate itself; without one: the best five. A class then asks why that object is of this class.
 */

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import ort from "onnxruntime-node";
import sharp from "sharp";
import { onPhotoOf } from "../../onnx_xcam/demo/web/boxes.js";
import { preprocessImage } from "../../onnx_xcam/demo/web/preprocess.js"; // plain JavaScript, no dependencies: copy it

const CHOICES = ["xcam_class", "xcam_object", "xcam_against"]; // the inputs that choose what is explained
const PREPROCESS = fileURLToPath(new URL("./preprocess.json", import.meta.url)); // of the sample model

async function main() {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2).map((text) => (/^-\d+$/.test(text) ? `=${text}` : text)), // -1 is a number, no option
    options: {
      object: { type: "string", multiple: true },
      preprocess: { type: "string", default: PREPROCESS },
      labels: { type: "string" },
      out: { type: "string", default: "." },
    },
    allowPositionals: true,
  });
  const [modelFile, photoFile, ...named] = positionals;
  if (!photoFile) throw new Error("give a model and a photo: node explain.js MODEL PHOTO [CLASS ...]");
  const preprocess = JSON.parse(fs.readFileSync(values.preprocess, "utf8"));
  const labels = values.labels ? fs.readFileSync(values.labels, "utf8").trimEnd().split("\n") : [];
  const classes = named.map((name) => classId(name.replace(/^=/, ""), labels));

  const session = await ort.InferenceSession.create(modelFile);
  const input = imageInput(session);
  const photo = await readPhoto(photoFile);
  const { data, dims, placement } = preprocessImage(photo, input, preprocess);
  const chosen = choice(session, classes, values.object?.map((text) => objectId(text.replace(/^=/, ""))));
  const ofObjects = ["xcam_objects", "xcam_probabilities", "xcam_boxes"].filter((n) => session.outputNames.includes(n));

  const found = await session.run(
    { [input.name]: new ort.Tensor(input.dtype, data, dims), ...chosen.feeds },
    ["xcam_classes", "xcam_scores", "xcam_map", "xcam_heatmap", ...ofObjects],
  );

  // What the model saw, as pixels: the same crop, without scaling the values.
  const raw = { ...preprocess, scale: 1, mean: [0], std: [1], channels: "RGB" };
  const seen = preprocessImage(photo, { ...input, dtype: "uint8", layout: "NHWC" }, raw).data;
  for (let k = 0; k < chosen.count; k++) {
    const object = found.xcam_objects && Number(found.xcam_objects.data[k]);
    if (object < 0) continue; // the photo has no such object
    const id = Number(found.xcam_classes.data[k]);
    const file = path.join(values.out, `${path.parse(photoFile).name}.${object === undefined ? id : `${object}-${id}`}.png`);
    await writeOverlay(file, seen, part(found.xcam_heatmap, k), input);
    const map = { size: found.xcam_map.dims.slice(2), values: [...part(found.xcam_map, k)] };
    const probability = found.xcam_probabilities?.data[k];
    const box = found.xcam_boxes && onPhotoOf(placement, [...found.xcam_boxes.data.slice(4 * k, 4 * k + 4)]);
    const score = found.xcam_scores.data[k];
    console.log(JSON.stringify({ object, box, class: id, label: labels[id], score, probability, file, map }));
  }
}

/** What the inputs that choose are fed, K numbers each: classes, or objects, each with its own class or another one. */
function choice(session, classes, objects) {
  const hasObjects = session.inputNames.includes("xcam_object");
  if (objects && !hasObjects) throw new Error("the model is a classifier, which has no objects; give classes");
  if (hasObjects && objects?.length !== 1 && classes.length > 1) {
    throw new Error("give one --object to ask for several classes, or one class for several objects");
  }
  const wanted = hasObjects
    ? { xcam_object: objects ?? [-1, -2, -3, -4, -5], xcam_class: classes.length ? classes : [-1] }
    : { xcam_class: classes.length ? classes : [-1, -2, -3] };
  const count = Math.max(...Object.values(wanted).map(({ length }) => length));
  const fed = CHOICES.filter((name) => session.inputNames.includes(name)).map((name) => {
    const ids = wanted[name] ?? [-1]; // -1 against: against nothing
    const all = ids.length === count ? ids : Array(count).fill(ids[0]);
    return [name, new ort.Tensor("int64", BigInt64Array.from(all, BigInt), [1, count])];
  });
  return { count, feeds: Object.fromEntries(fed) };
}

/** The values of class k in an output [1,K,h,w]. */
function part({ data, dims }, k) {
  const length = dims[2] * dims[3];
  return data.subarray(k * length, (k + 1) * length);
}

/** The input that the photo goes to: name, dtype, layout, height and width. */
function imageInput(session) {
  const inputs = session.inputMetadata.filter(({ name }) => !CHOICES.includes(name));
  if (inputs.length === session.inputMetadata.length || !session.outputNames.includes("xcam_heatmap")) {
    throw new Error(
      "the model does not take xcam_class or does not give xcam_heatmap; make it with " +
        "onnx-xcam instrument MODEL -o OUT --emit map,heatmap --class-input required",
    );
  }
  if (inputs.length > 1) throw new Error(`the model needs more than a photo: ${inputs.map(({ name }) => name)}`);
  const [{ name, type, shape }] = inputs;
  const layout = [1, 3].includes(shape[1]) ? "NCHW" : "NHWC";
  const sides = layout === "NCHW" ? shape.slice(2) : shape.slice(1, 3);
  const [height, width] = sides.map((side) => Number(side) || 224);
  return { name, dtype: type, layout, height, width };
}

/** A photo's pixels: upright, RGB, transparent parts over white, colour profiles not applied, as in onnx_xcam. */
async function readPhoto(file) {
  const upright = sharp(file, { ignoreIcc: true }).rotate().flatten({ background: "white" });
  const { data, info } = await upright.toColourspace("srgb").removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, height: info.height, width: info.width };
}

/** Red over grey: simple, and enough to see where it is hot. */
async function writeOverlay(file, pixels, heat, { height, width }) {
  const drawn = Buffer.alloc(pixels.length);
  heat.forEach((hot, i) => {
    const grey = (pixels[3 * i] + pixels[3 * i + 1] + pixels[3 * i + 2]) / 3;
    const opacity = 0.75 * hot;
    [255, 40, 0].forEach((colour, c) => {
      drawn[3 * i + c] = Math.round(grey * (1 - opacity) + colour * opacity);
    });
  });
  await sharp(drawn, { raw: { width, height, channels: 3 } }).toFile(file);
}

function objectId(text) {
  if (!/^-?\d+$/.test(text)) throw new Error(`"${text}" is no object; give a number: -1 is the best one`);
  return Number(text);
}

function classId(name, labels) {
  const id = /^-?\d+$/.test(name) ? Number(name) : labels.indexOf(name);
  if (id === -1 && name !== "-1") {
    throw new Error(`there is no class called "${name}"; give its number, or --labels FILE`);
  }
  return id;
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
