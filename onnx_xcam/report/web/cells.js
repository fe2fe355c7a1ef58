/**
 * Which value of a map lies where on the photo. A map {height, width} covers the model's whole input, its values side
 * by side; `placement` tells how the input lies on the photo. Points are [y, x], 0..1 from edge to edge of the photo.
 */

/** The value under a point, as [row, column], or null where the model did not see the photo. */
export function cellAt(map, placement, point) {
  const at = point.map((fraction, axis) => toInput(placement, axis, fraction));
  if (at.some((place) => !(place >= 0 && place <= 1))) return null;
  return at.map((place, axis) => Math.min(sides(map)[axis] - 1, Math.floor(place * sides(map)[axis])));
}

/** The part of the photo that a value covers: [top, left, bottom, right]. */
export function cellBox(map, placement, cell) {
  const [top, left] = cell.map((index, axis) => toPhoto(placement, axis, index / sides(map)[axis]));
  const [bottom, right] = cell.map((index, axis) => toPhoto(placement, axis, (index + 1) / sides(map)[axis]));
  return [top, left, bottom, right];
}

/** First and last row, then first and last column, of the values that lie on the photo and not on its padding. */
export function cellsOnPhoto(map, placement) {
  return [0, 1].map((axis) => {
    const [from, to] = [0, 1].map((edge) => Math.min(1, Math.max(0, toInput(placement, axis, edge))));
    const count = sides(map)[axis];
    return [Math.min(count - 1, Math.floor(from * count + 1e-9)), Math.max(0, Math.ceil(to * count - 1e-9) - 1)];
  });
}

const sides = ({ height, width }) => [height, width];

const toInput = ({ input, scaled, offset }, axis, fraction) => (fraction * scaled[axis] - offset[axis]) / input[axis];

const toPhoto = ({ input, scaled, offset }, axis, place) =>
  Math.min(1, Math.max(0, (place * input[axis] + offset[axis]) / scaled[axis]));
