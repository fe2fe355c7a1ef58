/** Radio buttons of which one is chosen. */

const MANY_CHOICES = 12; // from here on they scroll in a box of their own

/**
 * Fill a fieldset, behind its legend.
 *
 * @param options {value, label, small, share, colour} each; a share 0..1 is drawn as a bar, a colour as a spot.
 * @param chosen the value of the one that is on. @param choose is called with another one's.
 */
export function listChoices(fieldset, options, chosen, choose) {
  const focused = fieldset.contains(document.activeElement);
  const rows = options.map(({ value, label, small, share, colour }) => {
    const radio = made("input", { type: "radio", name: fieldset.id, value, checked: value === chosen });
    radio.addEventListener("change", () => choose(value));
    const row = made("label", { className: "choice" });
    if (share) {
      const bar = made("span", { className: "bar" });
      bar.style.width = `${100 * share}%`;
      row.append(bar);
    }
    const words = made("span", { className: "label", textContent: label });
    if (small) words.append(made("small", { textContent: small }));
    row.append(radio, words);
    if (colour) {
      const spot = made("span", { className: "spot" });
      spot.style.background = colour;
      row.append(spot);
    }
    return row;
  });
  const list = made("div", { className: rows.length > MANY_CHOICES ? "choices many" : "choices" });
  list.append(...rows);
  const scrolled = fieldset.querySelector(".choices")?.scrollTop ?? 0;
  fieldset.replaceChildren(fieldset.firstElementChild, list);
  list.scrollTop = scrolled;
  if (focused) fieldset.querySelector(":checked").focus();
}

export function made(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
