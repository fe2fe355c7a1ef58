"""This module emits the inputs that choose cells of a score table, or constants where the choice is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import is_whole, several, short_repr
from onnx_xcam.errors import ClassError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.targets.target import Choice, Choosing

_COUNT = "xcam_K"
"""The symbol for the number of cells that are explained of each image."""
_NONE = np.array([[-1]], np.int64)
"""The default of each input: the best object, its own class, no contrast."""


@dataclass(frozen=True)
class Asked:
    """An Asked holds the cells that are asked for.

    Attributes:
        objects: int64 `[N, K]`: ranks from -1 down, candidates from 0 up.
        classes: int64 `[N, K]`; -1 is the candidate's own.
        against: int64 `[N, K]`, -1 is none; or None without contrast.
        inputs: the inputs.
        known: the objects where they are fixed, int64 `[1, K]`.
    """

    objects: Value
    classes: Value
    against: Value | None
    inputs: tuple[Choice, ...]
    known: NDArray[np.int64] | None = None

    def weights(self, classes: Value, count: Value, dtype: np.dtype[Any]) -> Value:
        """Emit the weight of each class in the score of each cell, `[N, K, C]`: 1, and -1 of the contrasted class.

        Args:
            classes: the classes, int64 `[N, K]`, none negative.
            count: 0, 1, ... C - 1.
            dtype: the weights' type.
        """
        weights = classes.one_hot(count, dtype)
        return weights if self.against is None else weights - contrasted(self.against, count, dtype)


def contrasted(against: Value, count: Value, dtype: np.dtype[Any]) -> Value:
    """Emit classes that are contrasted with, int64 `[N, K]`, as one-hot rows `[N, K, C]`, zero where there is none."""
    is_one = (against < 0).logical_not()
    return is_one.where(against, 0).one_hot(count, dtype) * is_one.unsqueeze([2]).cast(dtype)


def asked_cells(
    emitter: Emitter, choosing: Choosing, table: Value, *, class_count: int | None, candidate_count: int | None
) -> Asked:
    """Emit the objects, classes and contrasted classes that are asked for, in one shape `[N, K]`.

    Args:
        emitter: collects the added nodes.
        choosing: how they are chosen.
        table: the scores, `[N, Q, C]`.
        class_count: C, None if it is not known.
        candidate_count: Q, None if it is not known.

    Raises:
        ClassError: a given class or object does not exist, or numbers are given that are to be fed later.
    """
    if choosing.class_input == "fixed":
        known, fixed_classes = _fixed(choosing, class_count, candidate_count)
        given = [emitter.constant(known), emitter.constant(fixed_classes)]
        inputs = tuple[Choice, ...]()
    else:
        if choosing.classes is not None or choosing.objects is not None:
            raise ClassError(
                'Classes and objects are fixed at surgery only with class_input="fixed"; otherwise feed them later.'
            )
        names = [contract.OBJECT_INPUT, contract.CLASS_INPUT, *([contract.AGAINST_INPUT] if choosing.contrast else [])]
        given, known = [_input(emitter, name) for name in names], None
        inputs = tuple(Choice(value, _NONE) for value in given)
    first, classes, *against = _of_one_shape(given, table)
    emitter.define_symbol(_COUNT, first, 1)
    return Asked(first, classes, against[0] if against else None, inputs, known)


def contrast_input(emitter: Emitter) -> Choice:
    """Return the input of the classes that the explained ones are contrasted with; by default there is none."""
    return Choice(_input(emitter, contract.AGAINST_INPUT), _NONE)


def _input(emitter: Emitter, name: str) -> Value:
    """Return an input of numbers `[M, K]`, whose sizes have symbols of their own, since inputs may differ in them."""
    return emitter.forward(name, np.dtype(np.int64), (f"{name}_M", f"{name}_K"))


def _of_one_shape(given: Sequence[Value], table: Value) -> list[Value]:
    """Emit numbers `[M, K]`, each with its own M and K, of which those that are 1 are repeated, as `[N, K]`."""
    zeros = given[0] * 0
    for value in given[1:]:
        zeros = zeros + value * 0
    parts: list[shapes.Part] = [shapes.dim_part(table, 0), 1]
    known = [value.shape[1] for value in given if value.const is not None]
    shape = (table.shape[0], known[0] if known else _COUNT)
    return [(value + zeros).expand(parts, shape) for value in given]


def _fixed(
    choosing: Choosing, class_count: int | None, candidate_count: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the objects and classes that are fixed at surgery, int64 `[1, K]` each.

    Raises:
        ClassError: they do not exist, are of different number, or contrasted classes are wanted too.
    """
    if choosing.contrast:
        raise ClassError("A contrast is chosen when the model runs; leave out the contrast, or the fixed objects.")
    objects = numbers(choosing.objects, "objects", "An object", candidate_count) or [-1]
    classes = numbers(choosing.classes, "classes", "A class", class_count) or [-1]
    if min(classes) < -1:
        raise ClassError(f"A class {min(classes)} does not exist: of an object, -1 is its own class; give an id.")
    if len(objects) != len(classes) and 1 not in (len(objects), len(classes)):
        raise ClassError(
            f"{len(objects)} objects and {len(classes)} classes are given; give one class for each object."
        )
    both = np.broadcast_arrays(np.array([objects], np.int64), np.array([classes], np.int64))
    return np.ascontiguousarray(both[0]), np.ascontiguousarray(both[1])


def numbers(given: Sequence[int] | None, name: str, one: str, count: int | None) -> list[int]:
    """Return the numbers of classes or objects that are fixed at surgery.

    Args:
        given: the numbers, or None.
        name: the argument.
        one: what one of them is, for messages.
        count: how many there are; None if that is not known.

    Raises:
        ClassError: one is no whole number, or there are not so many.
    """
    result = [] if given is None else several(name, given, "integers", ClassError)
    for number in result:
        if not is_whole(number):
            raise ClassError(f"{one} is an integer, not {short_repr(number)}.")
        if count is not None and not -count <= number < count:
            raise ClassError(f"{one} {number} does not exist: the model has those from 0 to {count - 1}.")
    return [int(number) for number in result]
