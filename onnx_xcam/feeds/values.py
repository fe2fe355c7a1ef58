"""This module reads the values that a user gives for inputs, numbers or .npy files, and fits them to the inputs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import mapping
from onnx_xcam.common.files import open_file
from onnx_xcam.common.numpy_errors import DAMAGED_NPY
from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.errors import InputError
from onnx_xcam.runtime import TensorInfo

InputValue: TypeAlias = "ArrayLike | Path"
"""An InputValue is numbers in any form that numpy takes, or the path of a .npy file (str or Path)."""


_MOST_BYTES = 2 << 30
"""The largest .npy file that is read; no input of a model of pictures takes as much."""


_CHOSEN_WITH = {
    contract.CLASS_INPUT: "--class or --top (classes=)",
    contract.OBJECT_INPUT: "--object or --top (objects=)",
    contract.AGAINST_INPUT: "--against (against=)",
}
"""What gives the value of each input that chooses what is explained."""


def padded(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """Return the rows, with the last one repeated until there are `length`."""
    if len(rows) >= length:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows), axis=0)])


def read_values(infos: Sequence[TensorInfo], given: Mapping[str, InputValue] | None) -> dict[str, NDArray[Any]]:
    """Return the given values as arrays by the names of inputs; files are read.

    Raises:
        InputError: there is no such input, a file cannot be read, or a value is not made of numbers.
    """
    names = [info.name for info in infos if info.name not in contract.CHOICE_INPUTS]
    values = {}
    given = {} if given is None else mapping("inputs", given, "values by the names of inputs", InputError)
    for name, value in given.items():
        if name in contract.CHOICE_INPUTS:
            raise InputError(f"What is explained is not given as the input '{name}' but with {_CHOSEN_WITH[name]}.")
        if name not in names:
            hint = suggestion(str(name), names, 1)
            raise InputError(f"The model has no input {name!r}{hint}; its inputs are {', '.join(map(repr, names))}.")
        values[name] = _read_array(name, value) if isinstance(value, str | Path) else _as_array(name, value)
    return values


def _as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """Return the value given for an input as an array, or raise an InputError if it holds no numbers."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"The value of the input '{name}' is no array: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"The value of the input '{name}' holds {array.dtype}, not numbers.")
    return array


def _read_array(name: str, path: str | Path) -> NDArray[Any]:
    """Read the array in a .npy file.

    The file is mapped first, so that one that states more than it holds is refused before memory is asked for.
    """
    try:
        with open_file(Path(path)) as file:
            is_archive = file.peek(2).startswith(b"PK")
            # `np.load` leaves a damaged archive open unless its caller opened the file.
            mapped = np.load(file if is_archive else path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(
            f"The value of the input '{name}' is neither numbers (0.5 or 1,224,224 or [[1,2],[3,4]]) nor a file that "
            f"is there: '{path}'."
        ) from error
    except (OSError, zipfile.BadZipFile, *DAMAGED_NPY) as error:
        pickled = "pickle" in str(error) or "Python objects" in str(error)
        why = "it is something else, or holds Python objects" if pickled else " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"'{path}', given for the input '{name}', cannot be read as a .npy file ({why}); write it with numpy.save."
        ) from error
    if not isinstance(mapped, np.ndarray):
        mapped.close()
        raise InputError(
            f"'{path}', given for the input '{name}', holds several arrays; write the right one with numpy.save."
        )
    if mapped.nbytes > _MOST_BYTES:
        raise InputError(f"'{path}', given for the input '{name}', holds more than {_MOST_BYTES >> 30} GiB.")
    return _as_array(name, np.array(mapped))


def parse_value(text: str) -> InputValue:
    """Return an option's text as an array (`0.5`, `true`, `1,224,224`, `[[1,2],[3,4]]`), anything else as a path."""
    try:
        numbers = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        return Path(text)
    if isinstance(numbers, list) and len(numbers) == 1:
        numbers = numbers[0]
    try:
        array = np.asarray(numbers)
    except (ValueError, OverflowError):
        return Path(text)
    return array if array.dtype.kind in "fiub" and array.size else Path(text)


def fitted_value(info: TensorInfo, value: NDArray[Any], per_image: bool) -> NDArray[Any]:
    """Return a value in the dtype and shape of an input.

    A single number fills the input; an array without the axis of the images gets one.

    Raises:
        InputError: the value does not fit the input.
    """
    array = _converted(info, value)
    shape: list[int | str | None] = [1 if per_image and axis == 0 else dim for axis, dim in enumerate(info.shape)]
    if array.ndim == 0 and shape:
        sizes = [dim for dim in shape if isinstance(dim, int)]
        if len(sizes) < len(shape):
            raise InputError(f"One number cannot fill {described(info)}, whose size is open; give an array.")
        return np.full(sizes, array, array.dtype)
    if per_image and array.ndim == len(shape) - 1:
        array = array[None]
    fits = array.ndim == len(shape) and all(
        not isinstance(dim, int) or dim == length or (per_image and axis == 0)
        for axis, (dim, length) in enumerate(zip(shape, array.shape, strict=True))
    )
    if shape and (not fits or array.size == 0):
        raise InputError(
            f"The value given for {described(info)} has the shape {contract.shape_text(value.shape)}, which does not "
            "fit."
        )
    return array


def _converted(info: TensorInfo, value: NDArray[Any]) -> NDArray[Any]:
    """Convert a value to the input's dtype, or raise an InputError if that changes a number by more than rounding."""
    if info.dtype is None:
        raise InputError(f"No value can be fed to {described(info)}: only numbers can.")
    kinds = value.dtype.kind, info.dtype.kind
    with np.errstate(all="ignore"):
        array = value.astype(info.dtype)
        whole = kinds[0] == "f" and kinds[1] in "iub"
        fits = not whole and (kinds[0] != "b" or kinds[1] == "b")
        if kinds == ("f", "f"):
            fits = bool((np.isfinite(array) == np.isfinite(value)).all())
        elif fits:
            fits = bool((array.astype(value.dtype) == value).all())
    if not fits:
        raise InputError(
            f"The value given for {described(info)} holds {value.dtype}, which is not {info.dtype} or does not fit in."
        )
    return array


def described(info: TensorInfo) -> str:
    """Return an input's name, dtype and shape as a part of a sentence."""
    return f"the input '{info.name}' ({info.dtype or info.kind} {contract.shape_text(info.shape)})"
