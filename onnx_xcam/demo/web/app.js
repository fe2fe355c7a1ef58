/** The page: takes a photo, asks the engine, shows classes and the map. */

import { drawBoxes, listBoxes, objectAt } from "./boxes.js";
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
let current; // the class or object whose map is shown; null where the photo has no object

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
  const best = Array.from({ length: settings.top }, (_, k) => -1 - k);
  const cells = hasObjects() ? { objects: best } : { classes: best };
  const { placement, classes } = await ask("photo", { image, cells }, [image.data.buffer]);
  shown?.bitmap.close();
  const shrunk = Math.min(1, LONGEST_SHOWN / Math.max(bitmap.width, bitmap.height));
  const size = [bitmap.height, bitmap.width].map((side) => Math.max(1, Math.round(side * shrunk)));
  shown = { name: file.name || "photo", bitmap, size, placement, classes, best: classes };
  element("work").hidden = false;
  element("picking").className = "small";
  drawPhoto();
  if (classes.length) show(classes[0]);
  else showNone();
}

/** The map of a class, or of the shown object with another class: of those at hand, else by another run. */
async function choose(id) {
  if (!shown || (hasObjects() && !current) || document.body.dataset.state === "busy") return;
  const photo = shown;
  const wanted = hasObjects() ? ofObject(id) : { id, cells: { classes: [id] } };
  const { cells, ...same } = wanted;
  let found = photo.classes.find((one) => Object.entries(same).every(([key, value]) => (one[key] ?? -1) === value));
  if (!found) {
    say("busy", "Looking …");
    try {
      [found] = (await ask("cells", { cells })).classes;
    } catch (error) {
      say("error", error.message);
      return;
    }
    if (shown !== photo || next) return; // another photo has come meanwhile
    if (!found) {
      say("ready", "There is no such object any more.");
      return;
    }
    found.against = cells.against?.[0] ?? -1;
    photo.classes = [...photo.best, found];
  }
  show(found);
}

/** What is asked for of the shown object: why it is of a class, or why of its own and not of that one. */
function ofObject(id) {
  const { object } = current;
  if (!element("against").checked) return { object, id, against: -1, cells: { objects: [object], classes: [id] } };
  const own = shown.best.find((one) => one.object === object)?.id ?? current.id;
  return { object, id: own, against: id, cells: { objects: [object], classes: [own], against: [id] } };
}

// --- showing ---------------------------------------------------------------------------------------------------------

const hasObjects = () => settings.choices.includes("xcam_object");
const colourOf = ({ id }) => `rgb(${settings.boxes[id % settings.boxes.length].join(" ")})`;
const labelOf = (id) => settings.labels?.[id] || `class ${id}`;
const nameOf = ({ id, against = -1 }) => labelOf(id) + (against < 0 ? "" : `, not ${labelOf(against)}`);
const percent = (p) => (p === null ? "" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`);

function show(found) {
  current = found;
  element("panel").hidden = element("drawing").hidden = false;
  element("contrast").hidden = !settings.choices.includes("xcam_against");
  listClasses();
  drawHeat();
  listBoxes(element("boxes"), shown.placement.photo, boxes(), hasObjects() ? rankOf(found) : -1);
  const told = [`class ${found.id}`, `score ${found.score.toFixed(2)}`];
  if (found.probability !== null) told.push(`probability ${percent(found.probability)}`);
  if (found.box) told.push(`at ${rounded(found.box.slice(0, 2))} to ${rounded(found.box.slice(2))}`);
  const text = `${nameOf(found)}: ${told.join(", ")}`;
  element("caption").textContent = text;
  element("photo").setAttribute("aria-label", `${shown.name}, and over it the map of ${text}`);
  const { id: classId, object, box, score, probability, status, map, against = -1 } = found;
  const label = labelOf(classId);
  window.xcam.last = { classId, label, object, box, against, score, probability, status, map, name: shown.name };
  say("ready", found.status ? sentenceOf(settings.status_text[found.status] ?? `status ${found.status}`) : "");
}

/** The photo alone: it has no object. */
function showNone() {
  current = null;
  element("panel").hidden = element("drawing").hidden = true;
  sized(element("heat"));
  listBoxes(element("boxes"), shown.placement.photo, []);
  const text = `no object with a probability above ${settings.conf}`;
  element("caption").textContent = sentenceOf(text);
  element("photo").setAttribute("aria-label", `${shown.name}: ${text}`);
  window.xcam.last = { classId: null, object: null, map: null, name: shown.name };
  say("ready", "");
}

/** The place of an object in the list of the best; another class of one stands at its place. */
const rankOf = ({ object }) => shown.best.findIndex((one) => one.object === object);

/** What is drawn of each object. */
function boxes() {
  if (!hasObjects()) return [];
  return shown.best.map((one, k) => {
    const what = current.object === one.object ? current : one;
    return { box: one.box, label: `${k + 1} ${nameOf(what)} ${percent(what.probability)}`, colour: colourOf(one) };
  });
}

const rounded = (xy) => xy.map((value) => String(Math.round(value)).replace("-", "−")).join(", ");
const sentenceOf = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

function listClasses() {
  const top = shown.classes.map((one, k) => {
    const chosenBy = hasObjects() ? k : one.id;
    const radio = made("input", { type: "radio", name: "class", value: chosenBy, checked: one === current });
    radio.addEventListener("change", () => show(one));
    const bar = made("span", { className: "bar" });
    bar.style.width = `${100 * (one.probability ?? 0)}%`;
    const label = made("label", { className: "class" });
    const value = one.probability === null ? one.score.toFixed(2) : percent(one.probability);
    label.append(
      bar,
      radio,
      made("span", { className: "label", textContent: hasObjects() ? `${rankOf(one) + 1} ${nameOf(one)}` : nameOf(one) }),
      made("span", { className: "value", textContent: value }),
    );
    return label;
  });
  if (hasObjects()) {
    const { length } = shown.best;
    const count = length === settings.top ? `the ${length} best objects` : `${length} objects`;
    element("asked").textContent = length === 1 ? "What speaks for the object" : `What speaks for each of ${count}`;
    element("another").textContent = "Another class of this object";
  }
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

const rank = () => (current ? rankOf(current) : -1);

function fade() {
  element("heat").style.opacity = element("opacity").value / 100;
}

function save() {
  const canvas = made("canvas", {});
  const context = sized(canvas);
  context.drawImage(element("photo"), 0, 0);
  context.globalAlpha = element("opacity").value / 100;
  context.drawImage(element("heat"), 0, 0);
  const what = hasObjects() && current ? `${rankOf(current) + 1}-${current.id}` : (current?.id ?? "none");
  const drawn = hasObjects() ? drawBoxes(canvas, shown.placement.photo, current ? boxes() : [], rank()) : canvas;
  drawn.toBlob((blob) => {
    const link = made("a", { href: URL.createObjectURL(blob) });
    link.download = `${shown.name.replace(/\.[^.]*$/, "")}.${what}.png`;
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
element("picture").addEventListener("click", (event) => {
  if (!shown || !hasObjects() || document.body.dataset.state === "busy") return;
  const { left, top, width, height } = element("photo").getBoundingClientRect();
  const point = [(event.clientY - top) / height, (event.clientX - left) / width];
  const k = objectAt({ classes: shown.best, size: shown.placement.photo }, point);
  if (k >= 0) show(shown.best[k]);
});
element("save").addEventListener("click", save);
new Search(element("search"), element("hits"), element("hint"), () => settings, choose);
