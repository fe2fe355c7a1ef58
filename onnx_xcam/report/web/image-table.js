/** A table that is sorted by any of its columns. */

export class ImageTable {
  /** @param table the element. @param columns {title, words, hint}: words is true for text. */
  constructor(table, columns) {
    Object.assign(this, { table, columns, by: null, up: true, rows: [] });
    const head = table.createTHead().insertRow();
    for (const [index, { title, hint, words }] of columns.entries()) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.classList.toggle("words", Boolean(words));
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: title, title: hint ?? "" });
      button.addEventListener("click", () => this.sort(index));
      cell.append(button);
      head.append(cell);
    }
    this.body = table.createTBody();
  }

  /** Show rows: lists of texts and numbers, null where there is none. */
  show(rows, told) {
    this.rows = rows;
    this.told = told;
    this.fill();
  }

  /** By a column: upward, by the same one again: downward. What is not known stands last. */
  sort(index) {
    this.up = this.by === index ? !this.up : true;
    this.by = index;
    for (const [at, cell] of [...this.table.tHead.rows[0].cells].entries()) {
      if (at === index) cell.ariaSort = this.up ? "ascending" : "descending";
      else cell.removeAttribute("aria-sort");
      const mark = this.up ? " ▲" : " ▼";
      cell.firstChild.textContent = this.columns[at].title + (at === index ? mark : "");
    }
    this.fill();
  }

  fill() {
    const { by } = this;
    const rows = by === null ? this.rows : [...this.rows].sort((a, b) => this.compare(a[by], b[by]));
    const lines = rows.map((row) => {
      const line = document.createElement("tr");
      for (const [index, value] of row.entries()) {
        const cell = line.insertCell();
        if (this.columns[index].words) cell.className = "words";
        cell.textContent = this.columns[index].words ? value : this.told(value);
      }
      return line;
    });
    this.body.replaceChildren(...lines);
  }

  compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
    return this.up ? order : -order;
  }
}
