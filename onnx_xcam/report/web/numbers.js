/** Numbers as text. */

/** Four digits that count; very small and very large ones with a power of ten. */
export function told(value) {
  if (value === null || value === undefined) return "unknown";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const plain = size === 0 || (size >= 1e-3 && size < 1e5);
  return (plain ? String(Number(value.toPrecision(4))) : value.toExponential(3)).replace("-", "−");
}

/** A share as per cent. */
export function percent(share) {
  if (share === null || !Number.isFinite(share)) return "";
  const size = 100 * Math.abs(share);
  return `${(100 * share).toFixed(size > 0 && size < 10 ? 1 : 0).replace("-", "−")} %`;
}
