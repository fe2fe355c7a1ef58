"""This module estimates the memory that each explained class takes, from the graph and without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import onnx
from google.protobuf.message import DecodeError

from onnx_xcam import contract
from onnx_xcam.runtime import TensorInfo
from onnx_xcam.runtime.batching import ARENA
from onnx_xcam.surgery.analysis.peak_memory import bytes_more

_CHANNELS_GUESSED, _LIVE_TENSORS_GUESSED = 1024, 4


def bytes_of_a_class(
    skeleton: bytes | None, inputs: Mapping[str, Sequence[int]], image: str, maps: Sequence[TensorInfo]
) -> int:
    """Return about how many bytes one class of all images of a batch takes while the backward pass runs.

    Args:
        skeleton: the instrumented model, which may lack its weights; None to guess from the shapes alone.
        inputs: the shapes of all inputs but the class input, by name.
        image: the name of the image input.
        maps: the outputs that are maps.
    """
    estimate = bytes_per_class(skeleton, inputs) if skeleton else None
    batch = inputs[image]
    return max(1, batch[0] * _guess(batch[1:], maps) if estimate is None else ARENA * estimate)


def _guess(picture: Sequence[int], maps: Sequence[TensorInfo]) -> int:
    """Guess the bytes that one class of one image takes, from the shapes of the picture and of the maps."""
    guess = max(1, math.prod(picture) // 3 // 256)  # a sixteenth of the height and width
    pixels = 0
    for output in maps:
        h, w = output.shape[2:]
        pixels += h * w if isinstance(h, int) and isinstance(w, int) else guess
    return max(1, pixels) * _CHANNELS_GUESSED * _LIVE_TENSORS_GUESSED * 4


def bytes_per_class(skeleton: bytes, inputs: Mapping[str, Sequence[int]]) -> int | None:
    """Return the bytes that each class adds to the peak memory of a run, or None if they cannot be estimated.

    Args:
        skeleton: the instrumented model, which may lack its weights.
        inputs: the shapes of all inputs but those that choose what is explained, by name.
    """
    try:
        there = {value.name for value in onnx.ModelProto.FromString(skeleton).graph.input}
    except DecodeError:
        return None
    asked = [name for name in contract.CHOICE_INPUTS if name in there]
    few, more = ({**inputs, **dict.fromkeys(asked, (1, k))} for k in (2, 3))
    return bytes_more(skeleton, few, more)
