/** The page: takes a photo, asks the engine, shows classes and the map. */

import { heatLayer, heatmap, setOff } from "./heatmap.js";
import { readPhoto } from "./photo.js";
import { Search } from "./search.js";

const LONGEST_SHOWN = 1200; // pixels of the canvas; the model gets the photo as it is

const element = (id) => document.getElementById(id);
const engine = new Worker(new URL("./engine.js", import.meta.url), { type: "module" });
const waiting = new Map();
let asked = 0;
let settings;
let shown; // {name, bitmap, size, placement, classes}
let current; // the class whose map is shown

/** For tests and the curious: what is shown, with the raw map, and a promise that the model is loaded. */
window.xcam = { last: null, ready: start() };

engine.onmessage = ({ data: { id, progress, result, error } }) => {
  if (progress !== undefined) {
    element("progress").value = progress;
    return;
  }
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) resolve(result);
  else reject(new Error(error));
};

engine.onerror = (event) => {
  const why = event.message ? `: ${event.message}` : "; is the folder complete, and the browser new enough?";
  for (const { reject } of waiting.values()) reject(new Error(`The page's engine could not be started${why}`));
  waiting.clear();
};

function ask(kind, rest = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    engine.postMessage({ id: asked, kind, ...rest }, transfer);
  });
}

function say(state, text) {
  document.body.dataset.state = state;
  element("message").textContent = text;
}

async function start() {
  element("unserved").remove();
  say("loading", "Loading the model …");
  element("progress").hidden = false;
  try {
    settings = await ask("start");
  } catch (error) {
    say("error", error.message);
    return false;
  } finally {
    element("progress").hidden = true;
  }
  element("name").textContent = settings.name;
  document.title = `What ${settings.name} sees`;
  element("notes").replaceChildren(...settings.notes.map((note) => made("li", { textContent: note })));
  element("about").hidden = false;
  element("file").disabled = false;
  say("ready", "");
  return true;
}

// --- a photo ---------------------------------------------------------------------------------------------------------

/** One at a time; a photo that comes while another is at work is taken after it, the last one only. */
let next = null;
async function take(file) {
  if (!settings) return; // not loaded yet, or not at all
  const busy = next !== null;
  next = file;
  if (busy) return;
  while (next) {
    const now = next;
    try {
      await explainPhoto(now);
    } catch (error) {
      say("error", error.message);
    }
    if (next === now) next = null;
  }
}

async function explainPhoto(file) {
  say("busy", "Looking …");
  const { bitmap, image } = await readPhoto(file, /^u?int(16|32|64)$/.test(settings.input.dtype));
  const wanted = Array.from({ length: settings.top }, (_, k) => -1 - k);
  const { placement, classes } = await ask("photo", { image, classes: wanted }, [image.data.buffer]);
  shown?.bitmap.close();
  const shrunk = Math.min(1, LONGEST_SHOWN / Math.max(bitmap.width, bitmap.height));
  const size = [bitmap.height, bitmap.width].map((side) => Math.max(1, Math.round(side * shrunk)));
  shown = { name: file.name || "photo", bitmap, size, placement, classes };
  element("work").hidden = false;
  element("picking").className = "small";
  drawPhoto();
  show(classes[0]);
}

/** The map of a class: of those at hand, else by another run. */
async function choose(id) {
  if (!shown || document.body.dataset.state === "busy") return;
  const photo = shown;
  let found = photo.classes.find((one) => one.id === id);
  if (!found) {
    say("busy", "Looking …");
    try {
      [found] = (await ask("classes", { classes: [id] })).classes;
    } catch (error) {
      say("error", error.message);
      return;
    }
    if (shown !== photo || next) return; // another photo has come meanwhile
    photo.classes = [...photo.classes.slice(0, settings.top), found];
  }
  show(found);
}

// --- showing ---------------------------------------------------------------------------------------------------------

const labelOf = (id) => settings.labels?.[id] || `class ${id}`;
const percent = (p) => (p === null ? "" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`);

function show(found) {
  current = found;
  listClasses();
  drawHeat();
  const told = [`class ${found.id}`, `score ${found.score.toFixed(2)}`];
  if (found.probability !== null) told.push(`probability ${percent(found.probability)}`);
  const text = `${labelOf(found.id)}: ${told.join(", ")}`;
  element("caption").textContent = text;
  element("photo").setAttribute("aria-label", `${shown.name}, and over it the map of ${text}`);
  const { id: classId, score, probability, status, map } = found;
  window.xcam.last = { classId, label: labelOf(classId), score, probability, status, map, name: shown.name };
  say("ready", found.status ? sentenceOf(settings.status_text[found.status] ?? `status ${found.status}`) : "");
}

const sentenceOf = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function listClasses() {
  const top = shown.classes.map((one) => {
    const radio = made("input", { type: "radio", name: "class", value: one.id, checked: one === current });
    radio.addEventListener("change", () => choose(one.id));
    const bar = made("span", { className: "bar" });
    bar.style.width = `${100 * (one.probability ?? 0)}%`;
    const label = made("label", { className: "class" });
    const value = one.probability === null ? one.score.toFixed(2) : percent(one.probability);
    label.append(
      bar,
      radio,
      made("span", { className: "label", textContent: labelOf(one.id) }),
      made("span", { className: "value", textContent: value }),
    );
    return label;
  });
  const fieldset = element("classes");
  const focused = fieldset.contains(document.activeElement);
  fieldset.replaceChildren(fieldset.firstElementChild, ...top);
  if (focused) fieldset.querySelector(":checked").focus();
}

function made(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function sized(canvas) {
  [canvas.height, canvas.width] = shown.size;
  return canvas.getContext("2d");
}

function drawPhoto() {
  const context = sized(element("photo"));
  context.fillStyle = "white";
  context.fillRect(0, 0, shown.size[1], shown.size[0]);
  context.imageSmoothingQuality = "high";
  context.drawImage(shown.bitmap, 0, 0, shown.size[1], shown.size[0]);
  setOff(context, shown.placement, shown.size);
}

function drawHeat() {
  const colours = Uint8Array.from(atob(settings.colours), (character) => character.charCodeAt(0));
  const heat = heatmap(current.map, shown.placement, shown.size);
  sized(element("heat")).putImageData(heatLayer(heat, shown.size, colours), 0, 0);
  fade();
}

function fade() {
  element("heat").style.opacity = element("opacity").value / 100;
}

function save() {
  const canvas = made("canvas", {});
  const context = sized(canvas);
  context.drawImage(element("photo"), 0, 0);
  context.globalAlpha = element("opacity").value / 100;
  context.drawImage(element("heat"), 0, 0);
  canvas.toBlob((blob) => {
    const link = made("a", { href: URL.createObjectURL(blob) });
    link.download = `${shown.name.replace(/\.[^.]*$/, "")}.${current.id}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

// --- the user --------------------------------------------------------------------------------------------------------

function taken(transfer) {
  const file = [...(transfer?.files ?? [])][0];
  if (file) take(file);
  return Boolean(file);
}

element("file").addEventListener("change", ({ target }) => {
  taken(target);
  target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => {
  if (event.target === element("search") && event.clipboardData?.types.includes("text/plain")) return; // a class's name
  if (taken(event.clipboardData)) event.preventDefault();
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && !taken(event.dataTransfer) && settings) {
      say("error", "What was dropped is no file; drop a photo from a folder, or paste it.");
    }
  });
}
element("opacity").addEventListener("input", fade);
element("save").addEventListener("click", save);
new Search(element("search"), element("hits"), element("hint"), () => settings, choose);
