/** The page of explained photos: what is chosen, and showing it. */

import { listChoices, made } from "./choices.js";
import { Gallery } from "./gallery.js";
import { percent, told } from "./numbers.js";
import { bytesOf, mapOf, readPhotoData } from "./photo-data.js";
import { Stage } from "./stage.js";

const MANY = 8; // photos: from here on there is something to find

const element = (id) => document.getElementById(id);
const elements = (...ids) => Object.fromEntries(ids.map((id) => [id, element(id)]));
const options = JSON.parse(document.querySelector("body > script[type='application/json']").textContent);
const stage = new Stage(
  elements("stage", "picture", "cell", "probe", "scale", "mark", "least", "most", "reading", "spoken"),
);
const gallery = new Gallery({ list: element("gallery"), ...elements("filter", "order", "found") }, open);
const wanted = { method: null, layer: null, classId: null }; // kept from photo to photo
const colours = { sequential: null, diverging: null };
let item; // of the gallery
let photo;
let waiting = null;

/** For tests and the curious: what is shown, with the raw map, and which of its values is read. */
window.xcam = {
  last: null,
  get reading() {
    return stage.at && { row: stage.at[0], column: stage.at[1], value: stage.value(stage.at) };
  },
};

start();

function start() {
  document.body.classList.add("live");
  const count = gallery.given.length;
  const failed = gallery.given.filter((one) => one.matches(".failed")).length;
  const several = count === 1 ? "1 photo" : `${count} photos`;
  element("summary").textContent = failed ? `${several}, of which ${failed} could not be explained` : several;
  element("finding").hidden = count < MANY;
  gallery.arrange();
  const asked = document.getElementById(location.hash.slice(1));
  const first = gallery.shown.includes(asked) ? asked : gallery.shown[0];
  if (first) open(first);
}

/** One at a time: of photos that are asked for while one is read, the last one. */
async function open(next) {
  const busy = waiting !== null;
  waiting = next;
  if (busy) return;
  while (waiting) {
    const now = waiting;
    try {
      const found = await readPhotoData(now);
      photo?.bitmap.close();
      [item, photo] = [now, found];
      showPhoto();
    } catch (error) {
      element("warnings").replaceChildren(warning(`This photo cannot be shown: ${error.message}`));
    }
    if (waiting === now) waiting = null;
  }
}

function showPhoto() {
  element("viewer").hidden = element("panel").hidden = false;
  gallery.mark(item);
  history.replaceState(null, "", `#${item.id}`);
  element("name").textContent = photo.name;
  const [items, at] = [gallery.shown, gallery.shown.indexOf(item)];
  element("position").textContent = at < 0 ? "" : `${at + 1} of ${items.length}`;
  element("turning").hidden = gallery.given.length < 2;
  element("previous").disabled = at === 0;
  element("next").disabled = at === items.length - 1;
  element("warnings").replaceChildren(...photo.warnings.map(warning));
  show();
}

const warning = (text) => made("p", { className: "warning", textContent: text });

/** What is wanted, as far as this photo has it. */
function chosen() {
  const k = Math.max(0, photo.classes.findIndex((one) => one.id === wanted.classId));
  const methods = [...new Set(photo.maps.map((one) => one.method))];
  const method = methods.includes(wanted.method) ? wanted.method : methods[0];
  const byMethod = photo.maps.filter((one) => one.method === method);
  return { k, methods, maps: byMethod.find((one) => one.layer === wanted.layer) ?? byMethod[0], layers: byMethod };
}

function show() {
  const { k, methods, maps, layers } = chosen();
  const one = photo.classes[k];
  const map = mapOf(maps, k);
  listClasses(one);
  listChoices(element("methods"), methods.map(plain), maps.method, choose("method"));
  listChoices(element("layers"), layers.map(({ layer }) => plain(layer)), maps.layer, choose("layer"));
  listColours(maps.signed);
  const table = bytesOf(colourTables(maps.signed)[element("colours").value]);
  const limit = maps.limits?.[k] ?? null;
  stage.show({ photo, map, signed: maps.signed, fine: maps.fine, limit, colours: table });
  listNumbers(map, maps, k);
  const words = `the map of ${labelOf(one)} by ${maps.method} at layer ${maps.layer}`;
  element("picture").setAttribute("aria-label", `${photo.name}, and over it ${words}`);
  const { id: classId, label, score, probability } = one;
  const { method, layer, signed } = maps;
  window.xcam.last = { id: item.id, name: photo.name, classId, label, score, probability, method, layer, signed, map };
}

const labelOf = (one) => one.label ?? `class ${one.id}`;
const plain = (value) => ({ value, label: value });
const choose = (key) => (value) => {
  wanted[key] = value;
  show();
};

function listClasses(current) {
  const rows = photo.classes.map((one) => {
    const probability = one.probability === null ? "" : ` · ${percent(one.probability)}`;
    const small = `class ${one.id} · score ${told(one.score)}${probability}`;
    return { value: one.id, label: labelOf(one), small, share: one.probability };
  });
  listChoices(element("classes"), rows, current.id, choose("classId"));
}

function listNumbers({ data, height, width }, { status, step, limits }, k) {
  const finite = data.filter(Number.isFinite);
  const rows = [
    ["Size", `${height} × ${width}`],
    ["Smallest", told(finite.length ? finite.reduce((a, b) => Math.min(a, b)) : NaN)],
    ["Largest", told(finite.length ? finite.reduce((a, b) => Math.max(a, b)) : NaN)],
    ["Sum", told(finite.reduce((a, b) => a + b, 0))],
    ["Status", options.status[status[k]] ?? `status ${status[k]}`],
    ...(limits?.[k] ? [["Drawn", `up to ${told(limits[k])}, beyond which 1 % lies`]] : []),
    ...(step === null ? [] : [["Rounded to", `steps of ${told(step)}`]]),
  ].map(([name, value]) => {
    const row = made("div", {});
    row.append(made("dt", { textContent: name }), made("dd", { className: "number", textContent: value }));
    return row;
  });
  element("numbers").replaceChildren(...rows);
}

// --- colours, opacity, files -----------------------------------------------------------------------------------------

const colourTables = (signed) => (signed ? options.diverging : options.colours);
const kindOf = (signed) => (signed ? "diverging" : "sequential");

function listColours(signed) {
  const select = element("colours");
  if (select.dataset.kind === kindOf(signed)) return;
  select.dataset.kind = kindOf(signed);
  const names = Object.keys(colourTables(signed));
  select.replaceChildren(...names.map((name) => made("option", { value: name, textContent: name })));
  select.value = colours[kindOf(signed)] ?? names[0];
}

function fade() {
  const hidden = element("hide").ariaPressed === "true";
  element("percent").textContent = `${element("opacity").value} %`;
  stage.paint(hidden ? 0 : element("opacity").value / 100);
}

function save() {
  element("picture").toBlob((blob) => {
    const link = made("a", { href: URL.createObjectURL(blob) });
    link.download = `${photo.name.replace(/^.*[/\\]/, "").replace(/\.[^.]*$/, "")}.${window.xcam.last.classId}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

function turn(step) {
  const items = gallery.shown;
  const next = items[items.indexOf(item) + step];
  if (next) open(next);
}

element("opacity").addEventListener("input", () => {
  element("hide").ariaPressed = "false";
  fade();
});
element("hide").addEventListener("click", ({ currentTarget: button }) => {
  button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
  fade();
});
element("colours").addEventListener("change", ({ target }) => {
  colours[target.dataset.kind] = target.value;
  show();
});
element("save").addEventListener("click", save);
element("previous").addEventListener("click", () => turn(-1));
element("next").addEventListener("click", () => turn(1));
addEventListener("hashchange", () => {
  const asked = document.getElementById(location.hash.slice(1));
  if (gallery.given.includes(asked) && asked !== item) open(asked);
});
