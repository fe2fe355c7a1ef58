"""What makes the maps of an Explainer: the instrumented file itself, or numpy from what was recorded in the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import find_method
from onnx_xcam.explainer.emitted import EmittedMaps
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorded import RecordedMaps
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.source import ModelLike


class Engine(Protocol):
    """Explains pictures with a model that it holds open, from any thread.

    Attributes:
        model: the open model.
        methods: names of the CAM methods; each explanation has maps of all.
        relu: whether the maps leave out what speaks against the class.
        fuse: how the maps of all layers are put together as well, or None.
    """

    model: OpenModel
    methods: tuple[str, ...]
    relu: bool
    fuse: Fusion | None

    @property
    def images_per_group(self) -> int:
        """How many images of a stream are best explained together."""
        ...

    def explain(
        self,
        several: Sequence[Sequence[Picture]],
        classes: NDArray[np.int64] | None,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """One explanation for each list of pictures, which are of one shape.

        Args:
            several: the lists; none is empty.
            classes: int64 [1,K], or [N,K] for the N pictures of all lists; None where the model has settled them.
            cancellation: what may end the runs from another thread.

        Raises:
            ClassError: a class does not exist, of which only a run could tell.
            XcamError: as `Session.run`.
        """
        ...


def open_engine(
    model: ModelLike, methods: Sequence[str], options: ModelOptions, *, relu: bool, fuse: Fusion | None
) -> Engine:
    """The engine for these methods: a single one that a file can carry is emitted, all else is recorded.

    Raises:
        XcamError: there is no such method, or what opening the model raises.
    """
    chosen = list(dict.fromkeys(find_method(name).name for name in methods))
    if len(chosen) == 1 and find_method(chosen[0]).is_emitted:
        return EmittedMaps(model, find_method(chosen[0]), options, relu=relu, fuse=fuse)
    return RecordedMaps(model, chosen, options, relu=relu, fuse=fuse)
