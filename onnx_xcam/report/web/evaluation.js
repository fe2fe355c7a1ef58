/** The page of an evaluation: its table of images. All else stands in the page as it is. */

import { ImageTable } from "./image-table.js";
import { told } from "./numbers.js";

const element = (id) => document.getElementById(id);
const data = JSON.parse(document.querySelector("body > script[type='application/json']").textContent);

const table = new ImageTable(element("table"), [
  { title: "Photo", words: true },
  { title: "Class", words: true },
  { title: data.confidence === "score" ? "Score" : "Probability" },
  ...data.metrics.map(({ title, better }) => ({ title, hint: better && `${better} is better` })),
]);

function choices(select, values) {
  for (const value of new Set(values)) select.add(new Option(value, value));
  select.closest("label").hidden = select.options.length < 2;
}

function show() {
  const words = element("filter").value.trim().toLowerCase().split(/\s+/);
  const [layer, method] = [element("layer").value, element("method").value];
  const row = data.rows.findIndex((one) => one.layer === layer && one.method === method);
  const rows = data.images
    .filter(([name, label]) => words.every((word) => `${name} ${label}`.toLowerCase().includes(word)))
    .map(([name, label, confidence, values]) => [name, label, confidence, ...values[row]]);
  table.show(rows, (value) => (value === null ? "–" : told(value)));
  const all = data.images.length;
  element("found").textContent = rows.length === all ? `${all} rows` : `${rows.length} of ${all} rows`;
}

choices(element("layer"), data.rows.map(({ layer }) => layer));
choices(element("method"), data.rows.map(({ method }) => method));
for (const id of ["filter", "layer", "method"]) element(id).addEventListener("input", show);
element("images").hidden = data.images.length === 0;
if (data.images.length) show();
