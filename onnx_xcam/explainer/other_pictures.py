"""This module reads pictures for further inputs, and preprocesses them as the explained picture is preprocessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam.common.arguments import mapping
from onnx_xcam.common.files import is_file
from onnx_xcam.errors import InputError
from onnx_xcam.feeds import FedPicture, InputValue, takes_pictures
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.prepare import preprocess_image
from onnx_xcam.images.read import as_image, read_photo
from onnx_xcam.images.values import remarks_for
from onnx_xcam.producers.evidence import evidence
from onnx_xcam.producers.settle import input_spec, settle
from onnx_xcam.producers.stated import PreprocessLike
from onnx_xcam.runtime import TensorInfo

_ARRAYS = (".npy", ".npz")


def model_infos(proto: onnx.ModelProto) -> list[TensorInfo]:
    """Return the inputs of a model that have no default value, as a session would list them."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    return [_info(value) for value in proto.graph.input if value.name not in stored]


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    """Return an input's name, shape and dtype as a session would list them; dtype is None where NumPy has none."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in kind.shape.dim]
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except KeyError:
        dtype = None
    return TensorInfo(value.name, tuple(dims), dtype)


def read_pictures(
    proto: onnx.ModelProto,
    path: Path | None,
    given: Mapping[str, InputValue] | None,
    preprocess: PreprocessLike | None,
) -> tuple[dict[str, InputValue], dict[str, FedPicture]]:
    """Return the values of inputs with pictures preprocessed to `[1,...]`, and a description of each picture by input.

    A value counts as a picture if its input takes pictures and it is an uint8 `[H,W,3]` array or a file other than .npy
    and .npz.

    Args:
        proto: the model, without its weights.
        path: the model's file, beside which its preprocessing may be stated; None for a model in memory.
        given: the values by the names of inputs, or None.
        preprocess: as for `Explainer`; each picture is resized to its own input's size.

    Raises:
        ImageError: a picture cannot be read.
        PreprocessError: the preprocessing does not fit the input.
        InputError: an input takes no pictures of 1 or 3 channels.
    """
    values = {} if given is None else dict(mapping("inputs", given, "values by the names of inputs", InputError))
    descriptions = {}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    # What is stated for the explained picture is taken at this input's own size and number of channels.
    said = [replace(one, binding=False) for one in evidence(preprocess, None, metadata, path)]
    for info, value in _pictures(model_infos(proto), values):
        photo = read_photo(value) if isinstance(value, str | Path) else Photo(as_image(value))
        assert info.dtype is not None  # since `takes_pictures` is true
        spec = input_spec(info.name, info.dtype, info.shape, said)
        used = settle(said, spec, None).preprocess
        what = f"'{value}'" if isinstance(value, str | Path) else "the given picture"
        values[info.name] = preprocess_image(photo, used, spec, what)[0][None]
        remarks = tuple(f"{value}: {remark}." for remark in remarks_for(photo, used, spec))
        descriptions[info.name] = FedPicture(f"{what}, {used.summary(spec)}", remarks)
    return values, descriptions


def _pictures(infos: list[TensorInfo], values: Mapping[str, Any]) -> Iterator[tuple[TensorInfo, Any]]:
    """Yield each input with a picture for a value, and the picture."""
    for info in infos:
        value = values.get(info.name)
        if value is None or not takes_pictures(info):
            continue
        if isinstance(value, str | Path):
            if Path(value).suffix.lower() not in _ARRAYS and is_file(Path(value)):
                yield info, value
        elif _is_picture(info, value):
            yield info, value


def _is_picture(info: TensorInfo, value: object) -> bool:
    """Tell whether an array is a picture, and not a value that an uint8 input takes unchanged."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
        return False
    return info.dtype != np.uint8 or not _fits(info, value)


def _fits(info: TensorInfo, value: NDArray[Any]) -> bool:
    """Tell whether an array without the axis of images has the shape of an input."""
    pairs = zip(info.shape[1:], value.shape, strict=True)
    return all(length == given for length, given in pairs if isinstance(length, int))
