"""This module tells whether ONNX Runtime adds up products of 8-bit integers exactly here, and how it can be made to.

On x86 without VNNI (AVX2 or AVX-512 alone), ONNX Runtime's kernels for uint8 times int8 add pairs of products in 16
bits, where 255 x 127 + 255 x 127 does not fit: they saturate, and a model may name other classes than elsewhere. What a
processor, a provider and a version of ONNX Runtime do is not concluded from their names but tried, with a model of one
product (`trials.products`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx

from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.runtime import Arithmetic, open_session
from onnx_xcam.surgery.analysis.integer_products import Product, beyond_seven_bits, products
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.trials.comparison import output_difference
from onnx_xcam.trials.products import trial

Providers: TypeAlias = str | Sequence[str] | None

SATURATES = (
    "Processor: ONNX Runtime's sums of uint8 x int8 products saturate here (x86 without VNNI), so this model's scores "
    "and maps may differ from those elsewhere; --exact (exact=True) computes them exactly."
)
"""The note on a model whose products saturate on this processor."""
_BY_SPEED: tuple[Arithmetic, ...] = ("default", "uint8 weights", "unoptimised")
"""The arithmetics, the fastest first."""
_NEAR = 0.02
"""A result is right within this part of the expected one: rounding moves it by less, saturation halves it."""


@dataclass(frozen=True)
class ProcessorCheck:
    """A ProcessorCheck says how exactly this processor computes a model's products of 8-bit integers.

    Attributes:
        saturating: the operators whose sums of products can saturate; none where all are exact.
        differences: by output, the largest difference from exact arithmetic relative to its largest value; empty where
            all products are exact, or where they cannot be computed exactly here.
        largest: by output, the positions of the first image's largest number here and in exact arithmetic, where they
            differ; in an output of class scores these are the top classes.
    """

    saturating: list[str]
    differences: dict[str, float]
    largest: dict[str, tuple[int, int]]

    @property
    def changes_answers(self) -> bool:
        """Tell whether this processor changes the model's outputs, or may change them."""
        return bool(self.saturating) and (not self.differences or any(self.differences.values()))

    def text(self) -> str:
        """Return one line for people on how exactly the products are computed."""
        ops = ", ".join(self.saturating)
        if not ops:
            return "8-bit products: added up exactly on this processor"
        if not self.differences:
            return f"8-bit products: on this processor those in {ops} saturate, whatever ONNX Runtime is told"
        name, worst = max(self.differences.items(), key=lambda item: item[1])
        if not worst:
            return f"8-bit products: on this processor those in {ops} can saturate, but do not with these values"
        moved = ""
        if places := self.largest.get(name):
            moved = f", and its largest number is at {places[0]} instead of {places[1]}"
        return (
            f"8-bit products: this processor changes the model's answers, since those in {ops} saturate: '{name}' is "
            f"off by {worst:.1e} of its largest value{moved}; explain --exact (exact=True) is exact"
        )


def check_processor(source: Source, feeds: Mapping[str, Any], outputs: Mapping[str, Any]) -> ProcessorCheck | None:
    """Compare a model's outputs on the CPU with those in exact arithmetic.

    Args:
        source: the model.
        feeds: the values of its inputs, by name.
        outputs: the values of its outputs for these inputs, by name.

    Returns:
        The comparison, or None for a model without products of 8-bit integers.
    """
    skeleton = source.skeleton()
    if not products(skeleton):
        return None
    wrong = inexact(source, skeleton, "cpu")
    ops = sorted({product.op for product in wrong})
    arithmetic = exact_arithmetic(skeleton, "cpu") if wrong else None
    if arithmetic is None:
        return ProcessorCheck(ops, {}, {})
    content, folder = source.runnable(source.with_tail(b""))
    exactly = open_session(content, providers="cpu", folder=folder, arithmetic=arithmetic).run(feeds, list(outputs))
    differences = {name: output_difference(exactly[name], output) for name, output in outputs.items()}
    largest = {name: (_largest(output), _largest(exactly[name])) for name, output in outputs.items()}
    return ProcessorCheck(ops, differences, {name: pair for name, pair in largest.items() if pair[0] != pair[1]})


def _largest(output: Any) -> int:
    """Return the position of the first image's largest number; 0 for an output that is no array of numbers."""
    usable = isinstance(output, np.ndarray) and output.ndim and output.size
    return int(output[0].argmax()) if usable else 0


def arithmetic_for(
    source: Source, skeleton: onnx.ModelProto, providers: Providers, *, exact: bool
) -> tuple[Arithmetic, str | None]:
    """Return the arithmetic that a model is to be run with, and a note where that is inexact.

    Args:
        source: the model.
        skeleton: the model without its weights.
        providers: as `open_session` takes them.
        exact: whether products of 8-bit integers must be added up exactly.

    Raises:
        ModelError: exact products are asked for, but this ONNX Runtime cannot compute them on this processor.
    """
    wrong = inexact(source, skeleton, providers)
    if not wrong or not exact:
        return "default", SATURATES if wrong else None
    if (arithmetic := exact_arithmetic(skeleton, providers)) is None:
        raise ModelError(_impossible(source, wrong))
    return arithmetic, None


def _impossible(source: Source, wrong: Iterable[Product]) -> str:
    """Return the message that a model cannot be computed exactly on this processor."""
    ops = ", ".join(sorted({product.op for product in wrong}))
    return (
        f"{source.name} cannot be computed exactly on this processor: whatever ONNX Runtime is told, its sums of "
        f"products in {ops} saturate. Quantise the model with uint8 weights."
    )


def inexact(source: Source, skeleton: onnx.ModelProto, providers: Providers) -> Mapping[Product, set[str]]:
    """Return the products of a model that saturate on these providers by default, with the names of their weights."""
    all_products, key = products(skeleton), _key(providers)
    wrong = {product: names for product, names in all_products.items() if _is_exact(product, "default", key) is False}
    return wrong if wrong and _can_saturate(source, wrong.values()) else {}


def _can_saturate(source: Source, weights: Iterable[set[str]]) -> bool:
    """Tell whether some weights exceed 7 bits, or are not known; the named ones are read for that."""
    sets = list(weights)
    wanted = set[str]().union(*sets)
    return not all(sets) or beyond_seven_bits(source.load(external=lambda tensor: tensor.name in wanted), wanted)


def exact_arithmetic(skeleton: onnx.ModelProto, providers: Providers) -> Arithmetic | None:
    """Return the fastest arithmetic in which all products of a model come out right; None if there is none."""
    key = _key(providers)
    # A product that has no kernel by default cannot be in a model that runs.
    tried = [product for product in products(skeleton) if _is_exact(product, "default", key) is not None]
    return next((one for one in _BY_SPEED if all(_is_exact(product, one, key) for product in tried)), None)


def _key(providers: Providers) -> tuple[str, ...] | None:
    """Return providers as a key of the cache of trials."""
    return (providers,) if isinstance(providers, str) else tuple(providers) if providers else None


@functools.cache
def _is_exact(product: Product, arithmetic: Arithmetic, providers: tuple[str, ...] | None) -> bool | None:
    """Tell whether a product of the largest factors comes out right; None if this ONNX Runtime has no kernel for it."""
    tried = trial(product)
    try:
        session = open_session(tried.model, providers=providers, threads=1, arithmetic=arithmetic)
        y = session.run(tried.feeds, ["y"])["y"].astype(np.float64)
    except (ModelError, InputError):
        return None
    return bool(np.abs(y - tried.expected).max() <= _NEAR * tried.expected)
