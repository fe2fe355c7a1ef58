/** The page of explained photos: what is chosen, and showing it. */

import { drawBoxes, listBoxes, objectAt } from "./boxes.js";
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
let wantedObject = 0; // its place in the list, best first: each photo has its own
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
  wantedObject = 0;
  element("viewer").hidden = false;
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

/** Whether objects are explained, and not classes of the whole photo. */
const hasObjects = () => photo.classes.some((one) => one.object !== null);

/** What is wanted, as far as this photo has it. */
function chosen() {
  const sameClass = photo.classes.findIndex((one) => one.id === wanted.classId);
  const k = hasObjects() ? wantedObject : Math.max(0, sameClass);
  const methods = [...new Set(photo.maps.map((one) => one.method))];
  const method = methods.includes(wanted.method) ? wanted.method : methods[0];
  const byMethod = photo.maps.filter((one) => one.method === method);
  return { k, methods, maps: byMethod.find((one) => one.layer === wanted.layer) ?? byMethod[0], layers: byMethod };
}

function show() {
  const none = photo.classes.length === 0;
  for (const id of ["panel", "legend", "controls", "reading"]) element(id).hidden = none;
  element("none").hidden = !none;
  if (none) showNone();
  else showMap();
}

/** The photo alone: it has no object. */
function showNone() {
  stage.showPhoto(photo);
  listBoxes(element("boxes"), photo.size, []);
  element("picture").setAttribute("aria-label", `${photo.name}, without an object`);
  window.xcam.last = { id: item.id, name: photo.name, classId: null, object: null };
}

function showMap() {
  const { k, methods, maps, layers } = chosen();
  const one = photo.classes[k];
  const map = mapOf(maps, k);
  listClasses(k);
  listBoxes(element("boxes"), photo.size, boxes(), hasObjects() ? k : -1);
  listChoices(element("methods"), methods.map(plain), maps.method, choose("method"));
  listChoices(element("layers"), layers.map(({ layer }) => plain(layer)), maps.layer, choose("layer"));
  listColours(maps.signed);
  const table = bytesOf(colourTables(maps.signed)[element("colours").value]);
  const limit = maps.limits?.[k] ?? null;
  stage.show({ photo, map, signed: maps.signed, fine: maps.fine, limit, colours: table });
  listNumbers(map, maps, k);
  const words = `the map of ${labelOf(one)} by ${maps.method} at layer ${maps.layer}`;
  element("picture").setAttribute("aria-label", `${photo.name}, and over it ${words}`);
  const { id: classId, label, score, probability, object, box } = one;
  const { method, layer, signed } = maps;
  window.xcam.last = {
    id: item.id, name: photo.name, classId, label, score, probability, object, box, method, layer, signed, map,
  };
}

const labelOf = (one) => (one.label ?? `class ${one.id}`) + (one.against === null ? "" : `, not ${one.against}`);
const colourOf = (one) => `rgb(${options.boxes[one.id % options.boxes.length].join(" ")})`;

/** What is drawn of each object. */
function boxes() {
  return photo.classes.map((one, k) => {
    const known = one.probability === null ? "" : ` ${percent(one.probability)}`;
    return { box: one.box, label: `${k + 1} ${labelOf(one)}${known}`, colour: colourOf(one) };
  });
}

function chooseObject(point) {
  const k = point ? objectAt(photo, point) : -1;
  if (k < 0) return;
  wantedObject = k;
  show();
  element("spoken").textContent = `Object ${k + 1}: ${labelOf(photo.classes[k])}`;
}

const plain = (value) => ({ value, label: value });
const choose = (key) => (value) => {
  wanted[key] = value;
  show();
};

function listClasses(current) {
  if (hasObjects()) {
    listObjects(current);
    return;
  }
  element("about").textContent = "What speaks for …";
  const rows = photo.classes.map((one) => {
    const probability = one.probability === null ? "" : ` · ${percent(one.probability)}`;
    const small = `class ${one.id} · score ${told(one.score)}${probability}`;
    return { value: one.id, label: labelOf(one), small, share: one.probability };
  });
  listChoices(element("classes"), rows, photo.classes[current].id, choose("classId"));
}

function listObjects(current) {
  const count = photo.classes.length;
  element("about").textContent = count === 1 ? "What speaks for the object" : `What speaks for each of ${count} objects`;
  const rows = photo.classes.map((one, k) => {
    const facts = [
      one.probability === null ? `score ${told(one.score)}` : percent(one.probability),
      one.box ? `at ${rounded(one.box.slice(0, 2))} to ${rounded(one.box.slice(2))}` : "box unknown",
    ];
    const label = `${k + 1}  ${labelOf(one)}`;
    return { value: k, label, small: facts.join(" · "), share: one.probability, colour: colourOf(one) };
  });
  listChoices(element("classes"), rows, current, (k) => {
    wantedObject = k;
    show();
  });
}

const rounded = (xy) => xy.map((value) => String(Math.round(value)).replace("-", "−")).join(", ");

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
  const { classId } = window.xcam.last;
  const what = hasObjects() ? `${wantedObject + 1}-${classId}` : classId;
  const drawn = hasObjects() ? drawBoxes(element("picture"), photo.size, boxes(), wantedObject) : element("picture");
  drawn.toBlob((blob) => {
    const link = made("a", { href: URL.createObjectURL(blob) });
    link.download = `${photo.name.replace(/^.*[/\\]/, "").replace(/\.[^.]*$/, "")}.${what}.png`;
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
element("probe").addEventListener("click", (event) => chooseObject(stage.placeOf(event)));
element("probe").addEventListener("keydown", (event) => {
  if (event.key === "Enter") chooseObject(stage.readAt);
});
element("save").addEventListener("click", save);
element("previous").addEventListener("click", () => turn(-1));
element("next").addEventListener("click", () => turn(1));
addEventListener("hashchange", () => {
  const asked = document.getElementById(location.hash.slice(1));
  if (gallery.given.includes(asked) && asked !== item) open(asked);
});
