"""This module holds the gradient rule of Einsum, which sums products over named axes."""

from __future__ import annotations

from string import ascii_letters

from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp


@vjp("Einsum")
def einsum(node: NodeView, gy: Value) -> Gradients:
    """y[out] = sum of the product of all operands;  gx[in] = the same sum of gy[out] and the other operands.

    The class axis gets a letter of its own. Along an axis that only one operand has and that is summed, gx is constant
    and keeps size 1. An axis of size 1 that is broadcast to another operand's loses its letter, so that gx is summed
    there. An operand that is read along a diagonal gets a gradient on that diagonal, and zeros elsewhere.
    """
    operands = node.inputs
    terms, result, k = _letters(node, [x.rank for x in operands])
    pairs = list(zip(operands, terms, strict=True))
    wide = {a for x, term in pairs for a, dim in zip(term, x.shape, strict=True) if dim != 1}
    factors = [_without(x, term, wide) for x, term in pairs]
    gradients: list[Value | None] = []
    for index, (x, term) in enumerate(pairs):
        if not node.needs(index):
            gradients.append(None)
            continue
        others = [factor for i, factor in enumerate(factors) if i != index]
        known = set(result).union(*(letters for _, letters in others))
        own = "".join(a for a in dict.fromkeys(factors[index][1]) if a in known)
        equation = ",".join([k + result, *(letters for _, letters in others)]) + f"->{k}{own}"
        shape = (gy.shape[0], *(x.shape[term.index(a)] for a in own))
        g = node.emitter.one("Einsum", [gy, *(v for v, _ in others)], gy.dtype, shape, equation=equation)
        gradients.append(_along_term(g, own, x, term))
    return gradients


def _without(x: Value, term: str, wide: set[str]) -> tuple[Value, str]:
    """Return an operand and its letters without the axes of size 1 whose letter is wider in another operand."""
    stretched = [axis for axis, (a, dim) in enumerate(zip(term, x.shape, strict=True)) if dim == 1 and a in wide]
    return x.squeeze(stretched), "".join(a for axis, a in enumerate(term) if axis not in stretched)


def _along_term(g: Value, own: str, x: Value, term: str) -> Value:
    """Return a gradient `[K, *own]` as `[K, *term]`: size 1 along the letters it lacks, zeros off the diagonals."""
    new = [axis for axis, a in enumerate(term) if a not in own or term.index(a) < axis]
    g = g.unsqueeze([axis + 1 for axis in new])
    for axis, a in enumerate(term):
        if term.index(a) < axis:
            here, first = (x.range_of(i).unsqueeze([n for n in range(x.rank) if n != i]) for i in (axis, term.index(a)))
            g = here.equal(first).where(g, 0)
    return g


def _letters(node: NodeView, ranks: list[int]) -> tuple[list[str], str, str]:
    """Return the letters of each operand, those of the result, and an unused letter for the class axis.

    An ellipsis is replaced by letters that the equation does not use.
    """
    left, arrow, right = node.attr("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    free = [letter for letter in ascii_letters if letter not in left]
    covered = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True) if "..." in t]
    most = max(covered, default=0)  # every ellipsis stands for equally many axes
    if most >= len(free):
        raise node.unsupported("its equation leaves no letter for the class axis")
    dots = "".join(free[:most])
    if not arrow:
        named = left.replace(",", "").replace("...", "")
        right = "..." + "".join(sorted(a for a in set(named) if named.count(a) == 1))
    return [term.replace("...", dots) for term in terms], right.replace("...", dots), free[most]
