"""Many classes are explained in several runs, so that their gradients fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from onnx_xcam.runtime.session import Session

BYTES_PER_RUN = 2 << 30
"""What is fed to one run, and what the gradients of its classes may take, about."""
_CHANNELS_GUESSED, _LIVE_TENSORS_GUESSED = 1024, 4


def classes_per_run(session: Session, maps: Sequence[str], batch: NDArray[Any]) -> int:
    """How many classes of each image a run of an instrumented model is asked for at most.

    Args:
        session: of the model.
        maps: the names of its maps.
        batch: the images, [N,...].
    """
    return max(1, BYTES_PER_RUN // (len(batch) * _bytes_per_class(session, maps, batch)))


def _bytes_per_class(session: Session, maps: Sequence[str], batch: NDArray[Any]) -> int:
    """A rough guess at what one class of one image costs while the head's backward pass runs."""
    guess = max(1, batch[0].size // 3 // 256)  # a sixteenth of the height and width
    pixels = 0
    for output in session.outputs:
        if output.name in maps:
            h, w = output.shape[2:]
            pixels += h * w if isinstance(h, int) and isinstance(w, int) else guess
    return max(1, pixels) * _CHANNELS_GUESSED * _LIVE_TENSORS_GUESSED * 4
