/**
 * The worker that holds the model: a photo's pixels in, scores and maps out. It keeps the page responsive.
 *
 * Takes {id, kind: "start"}, {id, kind: "photo", image, cells} and {id, kind: "cells", cells} (of the last photo), where
 * cells are {classes, objects, against}, K numbers each, as the model's inputs take them; answers {id, result} or {id, error}, and {progress} (0..1) while the model is fetched.
 */

import * as ort from "./runtime/ort.js";
import { onPhotoOf } from "./boxes.js";
import { preprocessImage } from "./preprocess.js";

// One thread: more would need headers that a plain static server does not send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { wasm: new URL("./runtime/ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.logLevel = "error";

let settings;
let session;
let prepared; // the last photo: {feeds, dims, placement}

const handlers = { start, photo, cells };

// One after the other: a session runs only once at a time.
let last = Promise.resolve();
self.onmessage = ({ data }) => {
  last = last.then(() => answer(data));
};

async function answer({ id, kind, ...rest }) {
  try {
    self.postMessage({ id, result: await handlers[kind](rest) });
  } catch (error) {
    self.postMessage({ id, error: sentence(error) });
  }
}

async function start() {
  settings = await fetched("model.json", (response) => response.json());
  const model = await fetched(settings.file, (response) => withProgress(response, settings.bytes));
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(`The model cannot be loaded by ONNX Runtime in this browser: ${sentence(error)}`);
  }
  return settings;
}

async function photo({ image, cells: wanted }) {
  const { input, preprocess, others } = settings;
  const { data, dims, placement } = preprocessImage(image, input, preprocess, input.batch);
  const feeds = { [input.name]: new ort.Tensor(input.dtype, data, dims) };
  for (const { name, dtype, dims: shape, data: text } of others) {
    const count = shape.reduce((product, length) => product * length, 1);
    const values = dtype === "string" ? Array(count).fill("") : typed(dtype, text);
    feeds[name] = new ort.Tensor(dtype, values, shape);
  }
  prepared = { feeds, placement };
  return explained(wanted);
}

function cells({ cells: wanted }) {
  if (!prepared) throw new Error("There is no photo yet.");
  return explained(wanted);
}

/** What the inputs that choose are fed: -1 where nothing is wanted, which is the best, its own class, or no contrast. */
function chosen({ classes, objects, against }) {
  const { length } = classes ?? objects;
  const wanted = { xcam_class: classes, xcam_object: objects, xcam_against: against };
  const fed = settings.choices.map((name) => {
    const ids = wanted[name] ?? Array(length).fill(-1);
    return [name, new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, length])];
  });
  return { length, feeds: Object.fromEntries(fed) };
}

/** Run the model: for each of the K classes or objects its score, its map, and what is to be known of it. */
async function explained(wanted) {
  const { map, status, probabilities } = settings;
  const ofObjects = ["xcam_objects", "xcam_boxes", "xcam_probabilities"];
  const there = ofObjects.filter((name) => session.outputNames.includes(name));
  const names = ["xcam_classes", "xcam_scores", ...there, map, status, probabilities?.[0]].filter(Boolean);
  const { length, feeds } = chosen(wanted);
  let found;
  try {
    found = await session.run({ ...prepared.feeds, ...feeds }, [...new Set(names)]);
  } catch (error) {
    throw new Error(`The model could not be run on this photo: ${sentence(error)}`);
  }
  const classes = numbers(found.xcam_classes).slice(0, length);
  const [objects, boxes, own] = ofObjects.map((name) => (found[name] ? numbers(found[name]) : null));
  const scores = numbers(found.xcam_scores);
  const all = probabilities && probabilityTable(numbers(found[probabilities[0]]), probabilities);
  const [height, width] = found[map].dims.slice(2);
  const values = numbers(found[map]);
  const states = status ? numbers(found[status]) : null;
  const described = (id, k) => {
    const data = Float32Array.from(values.slice(k * height * width, (k + 1) * height * width));
    const state = states ? states[k] : statusOf(data);
    const probability = own ? own[k] : (all?.[id] ?? null);
    const box = boxes && onPhotoOf(prepared.placement, boxes.slice(4 * k, 4 * k + 4));
    const object = objects ? objects[k] : null;
    return { id, object, box, score: scores[k], probability, status: state, map: { data, height, width } };
  };
  const kept = classes.map(described).filter(({ object }) => object === null || object >= 0);
  return { placement: prepared.placement, classes: kept };
}

/** 1 for a map that is zero everywhere, 3 for one that is not finite: for models that do not tell themselves. */
function statusOf(map) {
  if (!map.every(Number.isFinite)) return 3;
  return map.some((value) => value !== 0) ? 0 : 1;
}

/** The first image's probabilities; an output of length 1 per image is one logit, which stands for two classes. */
function probabilityTable(values, [, how, scale, zeroPoint]) {
  const length = values.length / settings.input.batch;
  let table = values.slice(0, length).map((value) => (value - zeroPoint) * scale);
  if (how === "exp") table = table.map(Math.exp);
  if (how === "sigmoid") table = table.map((x) => 1 / (1 + Math.exp(-x)));
  if (how === "softmax") {
    if (length === 1) table = [0, table[0]];
    const largest = table.reduce((a, b) => Math.max(a, b));
    const powers = table.map((x) => Math.exp(x - largest));
    const sum = powers.reduce((a, b) => a + b);
    table = powers.map((x) => x / sum);
  }
  return table.length === 1 ? [1 - table[0], table[0]] : table;
}

/** A tensor's values as plain numbers. */
function numbers({ type, data }) {
  if (type === "float16" && data instanceof Uint16Array) return Array.from(data, float16);
  return Array.from(data, Number);
}

function float16(bits) {
  const exponent = (bits >> 10) & 31;
  const part = bits & 1023;
  let size = (exponent ? 1024 + part : part) * 2 ** ((exponent || 1) - 25);
  if (exponent === 31) size = part ? NaN : Infinity;
  return bits & 0x8000 ? -size : size;
}

/** The array whose bytes stand in base64. */
function typed(dtype, text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  if (dtype === "float16") return new Uint16Array(bytes.buffer);
  if (dtype === "bool") return bytes;
  const big = dtype.endsWith("nt64") ? "Big" : "";
  const name = dtype.replace("uint", "Uint").replace("int", "Int").replace("float", "Float");
  const kind = `${big}${name[0].toUpperCase()}${name.slice(1)}Array`;
  return new self[kind](bytes.buffer);
}

async function fetched(file, read) {
  let response;
  try {
    response = await fetch(new URL(file, import.meta.url));
  } catch (error) {
    throw new Error(`${file} could not be fetched: ${sentence(error)}`);
  }
  if (!response.ok) {
    throw new Error(`${file} could not be fetched (${response.status}); is it in the page's folder?`);
  }
  try {
    return await read(response);
  } catch (error) {
    throw new Error(`${file} could not be read: ${sentence(error)}`);
  }
}

async function withProgress(response, size) {
  const bytes = new Uint8Array(size);
  let at = 0;
  const reader = response.body.getReader();
  for (let step = await reader.read(); !step.done; step = await reader.read()) {
    if (at + step.value.length > size) throw new Error("it is longer than model.json says");
    bytes.set(step.value, at);
    at += step.value.length;
    self.postMessage({ progress: at / size });
  }
  if (at < size) throw new Error("it is shorter than model.json says");
  return bytes;
}

/** The message of anything thrown; ONNX Runtime in WebAssembly now and then throws a number. */
function sentence(error) {
  return error instanceof Error ? error.message : `error ${error}, which often means that memory ran out`;
}
