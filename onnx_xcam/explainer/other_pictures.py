"""Pictures for inputs beside the one that is explained: read, and prepared as the explained picture is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import mapping
from onnx_xcam.common.files import is_file
from onnx_xcam.errors import InputError
from onnx_xcam.explainer.preprocessing import PreprocessLike, assumed_preprocess, stated_preprocess
from onnx_xcam.feeds import FedPicture, InputValue, takes_pictures
from onnx_xcam.images.preprocess import InputSpec, Preprocess, preprocess_image
from onnx_xcam.images.read import ReadPicture, as_image, read_picture, remarks_for
from onnx_xcam.runtime import TensorInfo

_ARRAYS = (".npy", ".npz")


def model_infos(proto: onnx.ModelProto) -> list[TensorInfo]:
    """The inputs of a model that have no default value, as a session would list them."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    return [_info(value) for value in proto.graph.input if value.name not in stored]


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
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
    """The values of inputs, those that are pictures as the model takes them, `[1,...]`; and what is told of these.

    A picture is a file that is no .npy file, or an uint8 `[H,W,3]` array, for an input that takes pictures.

    Args:
        proto: the model, without its weights.
        path: its file, beside which its preprocessing may be stated.
        given: the values, by name.
        preprocess: as `Explainer` takes it; also for these pictures, each at its own input's size.

    Raises:
        ImageError: a picture cannot be read.
        PreprocessError: the preprocessing does not fit the input.
        InputError: an input takes no pictures of 1 or 3 channels.
    """
    values = {} if given is None else dict(mapping("inputs", given, "values by the names of inputs", InputError))
    told = {}
    for info, value in _pictures(model_infos(proto), values):
        read = read_picture(value) if isinstance(value, str | Path) else ReadPicture(as_image(value), None, ())
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        stated, _ = stated_preprocess(preprocess, metadata, path)
        assert info.dtype is not None  # `takes_pictures` has looked
        spec = InputSpec.from_shape(info.name, info.dtype, info.shape, stated.layout if stated else None)
        used = _for_channels(stated, spec) if stated else assumed_preprocess(spec)[0]
        values[info.name] = preprocess_image(read.image_rgb, used, spec)[0][None]
        what = f"'{value}'" if isinstance(value, str | Path) else "the given picture"
        remarks = tuple(f"{value}: {remark}." for remark in remarks_for(read, spec.dtype))
        told[info.name] = FedPicture(f"{what}, {used.summary(spec)}", remarks)
    return values, told


def _pictures(infos: list[TensorInfo], values: Mapping[str, Any]) -> Iterator[tuple[TensorInfo, Any]]:
    """The inputs whose value is a picture, and that."""
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
    """Whether an array is a picture, and not what an input of whole numbers takes as it is."""
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
        return False
    return info.dtype != np.uint8 or not _fits(info, value)


def _fits(info: TensorInfo, value: NDArray[Any]) -> bool:
    pairs = zip(info.shape[1:], value.shape, strict=True)
    return all(length == given for length, given in pairs if isinstance(length, int))


def _for_channels(preprocess: Preprocess, spec: InputSpec) -> Preprocess:
    """The preprocessing at an input's own size, grey for an input of one channel.

    Raises:
        InputError: mean and standard deviation are those of colours, and the input has one channel.
    """
    sized = preprocess.replace(size=None) if spec.height and spec.width else preprocess
    if spec.channels != 1 or preprocess.channels == "GRAY":
        return sized
    if len(set(preprocess.mean)) > 1 or len(set(preprocess.std)) > 1:
        raise InputError(
            f"The input '{spec.name}' {contract.shape_text((None, 1, spec.height, spec.width))} has one channel, and "
            "the preprocessing states a mean and standard deviation for three; give it as a prepared array (.npy)."
        )
    return sized.replace(channels="GRAY", mean=sized.mean[:1], std=sized.std[:1])
