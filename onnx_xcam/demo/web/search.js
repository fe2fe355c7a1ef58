/** A field that finds classes by name or number, and the list of what it found. */

const MOST_HITS = 8;

export class Search {
  /**
   * @param field the input; @param list the ul; @param hint where it says what it found.
   * @param settings gives the page's settings, once they are there; @param choose is called with a class.
   */
  constructor(field, list, hint, settings, choose) {
    Object.assign(this, { field, list, hint, settings, choose });
    field.addEventListener("input", () => this.find());
    field.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("click", ({ target }) => this.take(target.closest("button")));
  }

  find() {
    const text = this.field.value.trim().toLowerCase();
    const found = text ? matches(text, this.settings()) : [];
    this.list.replaceChildren(...found.slice(0, MOST_HITS).map((id) => this.hit(id)));
    const more = found.length > MOST_HITS ? `, the first ${MOST_HITS} are shown` : "";
    if (!text) this.hint.textContent = "A name or a number.";
    else this.hint.textContent = found.length ? `${found.length} found${more}.` : "No class is called that.";
  }

  hit(id) {
    const button = document.createElement("button");
    button.type = "button";
    button.value = id;
    const label = this.settings().labels?.[id];
    button.textContent = label ? `${label} (${id})` : `class ${id}`;
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  take(button) {
    if (button) this.choose(Number(button.value));
  }

  /** Enter takes the first; the arrows walk through the field and the list; Escape clears. */
  key(event) {
    const stops = [this.field, ...this.list.querySelectorAll("button")];
    const at = stops.indexOf(event.target);
    if (event.key === "Enter" && at === 0) this.take(stops[1]);
    else if (event.key === "ArrowDown") stops[Math.min(at + 1, stops.length - 1)].focus();
    else if (event.key === "ArrowUp") stops[Math.max(at - 1, 0)].focus();
    else if (event.key === "Escape") {
      this.field.value = "";
      this.field.focus();
      this.find();
    } else return;
    event.preventDefault();
  }
}

/**
 * Ids of the classes that a text means, the best first: the number, the label, one of its words, its start, a word's
 * start, a part.
 */
function matches(text, { labels, class_count: count }) {
  const number = /^\d{1,9}$/.test(text) ? Number(text) : -1;
  const known = number >= 0 && (count === null || number < count) ? [number] : [];
  const ranked = (labels ?? [])
    .map((label, id) => [rank(label.toLowerCase(), text), id])
    .filter(([place, id]) => place < 5 && id !== known[0])
    .sort(([a, first], [b, second]) => a - b || first - second);
  return [...known, ...ranked.map(([, id]) => id)];
}

function rank(label, text) {
  if (label === text) return 0;
  const words = label.split(/[^\p{L}\p{N}]+/u);
  if (words.includes(text)) return 1;
  if (label.startsWith(text)) return 2;
  if (words.some((word) => word.startsWith(text))) return 3;
  return label.includes(text) ? 4 : 5;
}
