"""What explaining one more class of an image takes in memory, followed through the graph without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx_xcam import contract
from onnx_xcam.runtime import TensorInfo
from onnx_xcam.runtime.batching import ARENA
from onnx_xcam.surgery.analysis.peak_memory import bytes_more

_CHANNELS_GUESSED, _LIVE_TENSORS_GUESSED = 1024, 4


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
    return max(1, batch[0] * _guess(batch[1:], maps) if followed is None else ARENA * followed)


def _guess(picture: Sequence[int], maps: Sequence[TensorInfo]) -> int:
    """The same for one image of a model that cannot be followed."""
    guess = max(1, math.prod(picture) // 3 // 256)  # a sixteenth of the height and width
    pixels = 0
    for output in maps:
        h, w = output.shape[2:]
        pixels += h * w if isinstance(h, int) and isinstance(w, int) else guess
    return max(1, pixels) * _CHANNELS_GUESSED * _LIVE_TENSORS_GUESSED * 4


def bytes_per_class(skeleton: bytes, inputs: Mapping[str, Sequence[int]]) -> int | None:
    """The bytes that are in use at once at the worst moment of a run, per class; None if they cannot be told.

    Args:
        skeleton: the instrumented model, which may lack its weights.
        inputs: the shapes of all inputs but that of the classes, by name.
    """
    few, more = ({**inputs, contract.CLASS_INPUT: (1, k)} for k in (2, 3))
    return bytes_more(skeleton, few, more)
