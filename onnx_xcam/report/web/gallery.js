/** The list of photos: found by text, put in order, walked with arrow keys. */

const ORDERS = {
  given: () => 0,
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
  unsure: (a, b) => sureness(a, 2) - sureness(b, 2),
  sure: (a, b) => sureness(b, -1) - sureness(a, -1),
  warned: (a, b) => warned(b) - warned(a),
};

const sureness = (item, unknown) => (item.dataset.p === undefined ? unknown : Number(item.dataset.p));
const warned = (item) => Number(item.matches("[data-warned], .failed"));

export class Gallery {
  /** @param parts {list, filter, order, found}: elements. @param choose is called with the item to show. */
  constructor({ list, filter, order, found }, choose) {
    Object.assign(this, { list, filter, order, found, choose });
    this.given = [...list.children];
    filter.addEventListener("input", () => this.arrange());
    order.addEventListener("change", () => this.arrange());
    list.addEventListener("click", (event) => this.click(event));
    list.addEventListener("keydown", (event) => this.key(event));
    for (const item of this.given) this.link(item)?.setAttribute("href", `#${item.id}`);
  }

  link(item) {
    return item?.querySelector("a");
  }

  /** The photos that can be shown, in the order in which they stand. */
  get shown() {
    return [...this.list.children].filter((item) => !item.hidden && this.link(item));
  }

  /** Mark the item whose photo is shown. */
  mark(current) {
    for (const item of this.given) {
      const link = this.link(item);
      if (!link) continue;
      link.toggleAttribute("aria-current", false);
      link.tabIndex = -1;
    }
    const link = this.link(current);
    link.setAttribute("aria-current", "true");
    link.tabIndex = 0;
    reveal(this.list, current);
  }

  arrange() {
    const words = this.filter.value.trim().toLowerCase().split(/\s+/);
    const items = [...this.given].sort(ORDERS[this.order.value]);
    for (const item of items) item.hidden = !words.every((word) => item.dataset.find.includes(word));
    this.list.append(...items);
    const count = items.filter((item) => !item.hidden).length;
    this.found.textContent = count === items.length ? `${count} photos` : `${count} of ${items.length} photos`;
    const reached = this.shown.some((item) => this.link(item).tabIndex === 0);
    if (!reached && this.shown.length) this.link(this.shown[0]).tabIndex = 0;
  }

  click(event) {
    const link = event.target.closest("a");
    if (!link) return;
    event.preventDefault();
    this.choose(link.closest("li"));
  }

  key(event) {
    const items = this.shown;
    const at = items.indexOf(event.target.closest("li"));
    const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 };
    if (!(event.key in to) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const item = items[Math.min(items.length - 1, Math.max(0, to[event.key]))];
    this.choose(item);
    this.link(item).focus({ preventScroll: true });
  }
}

/** Scroll the list, and only the list, to an item of it. */
function reveal(list, item) {
  const [outer, inner] = [list.getBoundingClientRect(), item.getBoundingClientRect()];
  const down = Math.min(0, inner.top - outer.top) || Math.max(0, inner.bottom - outer.bottom);
  const along = Math.min(0, inner.left - outer.left) || Math.max(0, inner.right - outer.right);
  list.scrollBy({ top: down, left: along });
}
