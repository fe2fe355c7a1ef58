/**
 * Explain a photo with an instrumented model, in Node: no Python, no framework.
 *
 *     node explain.js MODEL PHOTO [CLASS ...] [--preprocess FILE] [--labels FILE] [--out DIR]
 *
 * Prints a line of JSON for each class, with the raw map, and writes what the model saw with the heat map over it. A
 * class is a number or a label; -1 is the model's best class, -2 the second best. Without one: the best three.
 */

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import ort from "onnxruntime-node";
import sharp from "sharp";
import { preprocessImage } from "../../onnx_xcam/demo/web/preprocess.js"; // plain JavaScript, no dependencies: copy it

const PREPROCESS = fileURLToPath(new URL("./preprocess.json", import.meta.url)); // of the sample model

async function main() {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2).map((text) => (/^-\d+$/.test(text) ? `=${text}` : text)), // -1 is a class, no option
    options: {
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
  const classes = named.length ? named.map((name) => classId(name.replace(/^=/, ""), labels)) : [-1, -2, -3];

  const session = await ort.InferenceSession.create(modelFile);
  const input = imageInput(session);
  const photo = await readPhoto(photoFile);
  const { data, dims } = preprocessImage(photo, input, preprocess);

  const found = await session.run(
    {
      [input.name]: new ort.Tensor(input.dtype, data, dims),
      xcam_class: new ort.Tensor("int64", BigInt64Array.from(classes, BigInt), [1, classes.length]),
    },
    ["xcam_classes", "xcam_scores", "xcam_map", "xcam_heatmap"],
  );

  // What the model saw, as pixels: the same crop, without scaling the values.
  const raw = { ...preprocess, scale: 1, mean: [0], std: [1], channels: "RGB" };
  const seen = preprocessImage(photo, { ...input, dtype: "uint8", layout: "NHWC" }, raw).data;
  for (let k = 0; k < classes.length; k++) {
    const id = Number(found.xcam_classes.data[k]);
    const file = path.join(values.out, `${path.parse(photoFile).name}.${id}.png`);
    await writeOverlay(file, seen, part(found.xcam_heatmap, k), input);
    const map = { size: found.xcam_map.dims.slice(2), values: [...part(found.xcam_map, k)] };
    console.log(JSON.stringify({ class: id, label: labels[id], score: found.xcam_scores.data[k], file, map }));
  }
}

/** The values of class k in an output [1,K,h,w]. */
function part({ data, dims }, k) {
  const length = dims[2] * dims[3];
  return data.subarray(k * length, (k + 1) * length);
}

/** The input that the photo goes to: name, dtype, layout, height and width. */
function imageInput(session) {
  const inputs = session.inputMetadata.filter(({ name }) => name !== "xcam_class");
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
