"""This module reads pictures for further inputs, and preprocesses them as the explained picture is preprocessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam.common.arguments import mapping
from onnx_xcam.common.files import is_file
from onnx_xcam.errors import ImageError, InputError, ModelError, PreprocessError
from onnx_xcam.explainer.picture_notes import doubt_on_pictures
from onnx_xcam.feeds import FedPicture, InputValue, takes_bands, takes_pictures
from onnx_xcam.images.arrays import array_in_npy, as_array, is_array
from onnx_xcam.images.content import content_of
from onnx_xcam.images.pil_images import is_pil_image
from onnx_xcam.images.prepare import preprocess_image
from onnx_xcam.images.sources import is_source, name_of, open_photo
from onnx_xcam.images.values import remarks_for
from onnx_xcam.producers.evidence import evidence
from onnx_xcam.producers.graph import graph_statements
from onnx_xcam.producers.settle import input_spec, settle
from onnx_xcam.producers.stated import PreprocessLike
from onnx_xcam.producers.statement import Statement
from onnx_xcam.runtime import TensorInfo
from onnx_xcam.surgery.proved import proved_of_picture


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

    A value counts as a picture if its input takes pictures and it is the source of one (see `images.sources`): any file
    but an .npz, the bytes of a file, an open file, an image of Pillow, or an array. Arrays, also those in .npy files,
    are taken for values that are prepared already where they fit the input, but for uint8 [H,W,3] that is not fed to an
    input of uint8; and where the input takes other channels than a photo has, since it may be one of feature maps.

    Args:
        proto: the model, without its weights.
        path: the model's file, beside which its preprocessing may be stated; None for a model in memory.
        given: the values by the names of inputs, or None.
        preprocess: as for `Explainer`; each picture is resized to its own input's size.

    Raises:
        ImageError: a picture cannot be read.
        PreprocessError: the preprocessing does not fit the input.
        InputError: an input takes no pictures.
    """
    values = {} if given is None else dict(mapping("inputs", given, "values by the names of inputs", InputError))
    descriptions: dict[str, FedPicture] = {}
    pictures = list(_pictures(model_infos(proto), values))
    if not pictures:
        return values, descriptions
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    # What is stated for the explained picture is taken at this input's own size and number of channels.
    said = [replace(one, binding=False) for one in evidence(preprocess, None, metadata, path)]
    for info, value in pictures:
        called = name_of(value, "the given picture")
        photo = open_photo(value, called)
        assert info.dtype is not None  # since `takes_pictures` is true
        everything = [*said, *_by_graph(proto, info.name)]
        spec = input_spec(info.name, info.dtype, info.shape, everything)
        what = f"'{called}'" if name_of(value, "") else called
        try:
            settled = settle(everything, spec, None)
            used = settled.preprocess
            values[info.name] = preprocess_image(photo, used, spec, what)[0][None]
        except PreprocessError as error:
            raise PreprocessError(
                f"Input {info.name!r}: {error}. A prepared array (.npy) needs no preprocessing."
            ) from error
        remarks = [f"{called}: {remark}." for remark in remarks_for(photo, used, spec)]
        if (doubt := doubt_on_pictures(settled)) is not None:
            remarks.append(f"Input '{info.name}': {doubt}")
        descriptions[info.name] = FedPicture(f"{what}, {used.summary(spec)}", tuple(remarks))
    return values, descriptions


def _by_graph(proto: onnx.ModelProto, name: str) -> Sequence[Statement]:
    """Return what the graph proves of a picture input; nothing for a model that is refused later, with its reason."""
    try:
        facts = proved_of_picture(proto, name)
    except ModelError:
        return ()
    return graph_statements(*facts)


def _pictures(infos: list[TensorInfo], values: Mapping[str, Any]) -> Iterator[tuple[TensorInfo, Any]]:
    """Yield each input with a picture for a value, and the picture."""
    for info in infos:
        value = values.get(info.name)
        if value is None or not (takes_pictures(info) or takes_bands(info)) or not is_source(value):
            continue
        if isinstance(value, str | Path) and (not is_file(Path(value)) or Path(value).suffix.lower() == ".npz"):
            continue  # `feeds.values` says what is wrong
        array = _array_of(value)
        if array is None or (takes_pictures(info) and _is_picture(info, array)):
            yield info, value


def _array_of(value: Any) -> NDArray[Any] | None:
    """Return the value as an array if it is one, or the array in a .npy file; None for any other picture.

    Raises:
        ImageError: the array holds no numbers.
    """
    if is_array(value) and not is_pil_image(value):
        return as_array(value, "the given picture")
    if isinstance(value, str | Path) and Path(value).suffix.lower() == ".npy":
        try:
            content = content_of(value)
            return array_in_npy(content.data, content.name) if content.kind == "npy" else None
        except ImageError:
            return np.zeros(0)  # no picture: `feeds.values` says what is wrong with it
    return None


def _is_picture(info: TensorInfo, value: NDArray[Any]) -> bool:
    """Tell whether an array is a picture, and not a value that the input takes unchanged."""
    if value.ndim not in (2, 3):
        return False
    if value.dtype == np.uint8 and value.shape[2:] == (3,) and info.dtype != np.uint8:
        return True
    return not _fits(info, value)


def _fits(info: TensorInfo, value: NDArray[Any]) -> bool:
    """Tell whether an array without the axis of images has the shape of an input."""
    if value.ndim != len(info.shape) - 1:
        return False
    pairs = zip(info.shape[1:], value.shape, strict=True)
    return all(length == given for length, given in pairs if isinstance(length, int))
