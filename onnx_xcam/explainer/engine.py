"""An engine makes the maps of an Explainer: a run of the instrumented file emits them, or numpy computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import AUTO_METHOD, find_method
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.emitted import EmittedMaps
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorded import RecordedMaps
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.source import ModelLike


class Engine(Protocol):
    """An Engine explains pictures with a model that it holds open; it may be called from any thread.

    Attributes:
        model: the open model.
        methods: names of the CAM methods; each explanation has maps by all of them.
        relu: whether the maps leave out what speaks against the class.
        fuse: how the maps of all layers are also fused into one, or None.
    """

    model: OpenModel
    methods: tuple[str, ...]
    relu: bool
    fuse: Fusion | None

    @property
    def images_per_group(self) -> int:
        """Return the number of images of a stream that are best explained together."""
        ...

    def explain(
        self,
        several: Sequence[Sequence[Picture]],
        cells: Cells,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """Return one explanation for each list of pictures; all pictures have one shape.

        Args:
            several: the lists; none is empty.
            cells: what is explained: the same in every picture, or a row for each of the N pictures of all lists.
            cancellation: can end the runs from another thread.

        Raises:
            ClassError: a class does not exist, which only a run could tell.
            XcamError: as `Session.run`.
        """
        ...


def open_engine(
    model: ModelLike, methods: Sequence[str], options: ModelOptions, *, relu: bool, fuse: Fusion | None
) -> Engine:
    """Open an engine, which emits the maps of a single method where that is possible, and else records them.

    Raises:
        XcamError: there is no such method, or the model cannot be opened.
    """
    chosen = list(dict.fromkeys(name if name == AUTO_METHOD else find_method(name).name for name in methods))
    if len(chosen) == 1 and (chosen[0] == AUTO_METHOD or find_method(chosen[0]).is_emitted):
        return EmittedMaps(model, chosen[0], options, relu=relu, fuse=fuse)
    return RecordedMaps(model, chosen, options, relu=relu, fuse=fuse)
