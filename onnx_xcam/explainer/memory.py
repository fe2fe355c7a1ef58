"""What explaining one more class of an image takes in memory, followed through the graph without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from onnx_xcam import contract
from onnx_xcam.runtime import TensorInfo

BYTES_PER_RUN = 2 << 30
"""Many classes are cut so that what depends on them stays about within this."""
_ARENA = 2
"""ONNX Runtime's arena rounds up to powers of two: measured were 1.2 to 2.5 times the memory that the graph needs
(ResNet-50, MobileNetV2, DenseNet-121, ViT-B/16 at a layer in the middle)."""
_CHANNELS_GUESSED, _LIVE_TENSORS_GUESSED = 1024, 4
_LONGEST_VECTOR = 1 << 20
"""Beyond, onnx's shape inference, which keeps a record of each element of a vector, would take long."""


def classes_per_run(each: int) -> int:
    """How many classes a run is asked for at most, where one of all its images takes so many bytes."""
    return max(1, BYTES_PER_RUN // each)


def bytes_of_a_class(
    skeleton: bytes | None, inputs: Mapping[str, Sequence[int]], image: str, maps: Sequence[TensorInfo]
) -> int:
    """What one class of all images of a batch takes while the head's backward pass runs, about.

    Args:
        skeleton: the instrumented model, which may lack its weights; None for one that is not followed.
        inputs: the shapes of all inputs but that of the classes, by name.
        image: the input that the pictures go to.
        maps: the maps among the outputs.
    """
    followed = bytes_per_class(skeleton, inputs) if skeleton else None
    batch = inputs[image]
    return max(1, batch[0] * _guess(batch[1:], maps) if followed is None else _ARENA * followed)


def _guess(picture: Sequence[int], maps: Sequence[TensorInfo]) -> int:
    """The same for one image of a model that cannot be followed."""
    guess = max(1, math.prod(picture) // 3 // 256)  # a sixteenth of the height and width
    pixels = 0
    for output in maps:
        h, w = output.shape[2:]
        pixels += h * w if isinstance(h, int) and isinstance(w, int) else guess
    return max(1, pixels) * _CHANNELS_GUESSED * _LIVE_TENSORS_GUESSED * 4


def bytes_per_class(skeleton: bytes, inputs: Mapping[str, Sequence[int]]) -> int | None:
    """The bytes that are in use at once at the worst moment of a run, per class.

    The sizes of all tensors are inferred for two and for three classes. What the difference is of those that depend
    on the classes is added up node by node, from where a tensor is made to where it is last read. ONNX Runtime takes
    more: its arena rounds up, some kernels copy.

    Args:
        skeleton: the instrumented model, which may lack its weights.
        inputs: the shapes of all inputs but that of the classes, by name.

    Returns:
        None if the size of a tensor on the way cannot be told.
    """
    few, more = (_inferred(skeleton, {**inputs, contract.CLASS_INPUT: (1, k)}) for k in (2, 3))
    if few is None or more is None:
        return None
    sizes, larger = _sizes(few), _sizes(more)
    last = {name: n for n, node in enumerate(few.node) for name in node.input}
    last.update((output.name, len(few.node)) for output in few.output)
    of_classes = {contract.CLASS_INPUT}
    ending: dict[int, int] = {}
    live = most = 0
    for n, node in enumerate(few.node):
        if not of_classes.isdisjoint(node.input):
            of_classes.update(node.output)
            if node.op_type == "TopK":
                continue  # its K comes from a value; at most the scores, which are few
            for name in filter(None, node.output):
                if name not in sizes or name not in larger:
                    return None
                size = larger[name] - sizes[name]
                live += size
                end = max(n, last.get(name, n))
                ending[end] = ending.get(end, 0) + size
        most = max(most, live)
        live -= ending.pop(n, 0)
    return most


def _inferred(skeleton: bytes, shapes: Mapping[str, Sequence[int]]) -> onnx.GraphProto | None:
    """The graph with all shapes that follow from those of the inputs."""
    try:
        model = onnx.ModelProto.FromString(skeleton)
        graph = model.graph
        if any(len(tensor.dims) == 1 and tensor.dims[0] > _LONGEST_VECTOR for tensor in graph.initializer):
            return None
        for value in graph.input:
            if value.name in shapes:
                stated = value.type.tensor_type.shape
                del stated.dim[:]
                stated.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=length) for length in shapes[value.name])
        weights = [tensor for tensor in graph.initializer if tensor.name != contract.CLASS_INPUT]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")
        return onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, DecodeError, ValueError, RuntimeError):
        return None


def _sizes(graph: onnx.GraphProto) -> dict[str, int]:
    """Bytes of the tensors whose shape is known."""
    found = {}
    for value in (*graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.elem_type and kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            width: int = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            found[value.name] = math.prod(dim.dim_value for dim in dims) * width
    return found
