"""This module has the engine that computes maps in numpy, by any methods, from what a Recorder recorded."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.cams.fusion import Fusion, check_fusion
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.joining import by_several_methods, joined
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import Recording
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.files.source import ModelLike


class RecordedMaps:
    """RecordedMaps makes explanations by one method or several from one recording of each image; see `Engine`."""

    def __init__(
        self, model: ModelLike, methods: Sequence[str], options: ModelOptions, *, relu: bool, fuse: Fusion | None
    ) -> None:
        """Open a plain model.

        Raises:
            XcamError: as `Recorder`, or the layers cannot be fused in this way.
        """
        check_fusion(fuse, layers=None, relu=relu)
        self._recorder = Recorder.of(model, methods, options)
        self.model, self.methods = self._recorder.model, self._recorder.methods
        self.relu, self.fuse = relu, fuse
        check_fusion(fuse, layers=len(self.model.shown_layers), relu=relu)

    @property
    def images_per_group(self) -> int:
        """Return the number of images of a stream that are explained together."""
        return self.model.batch or 1

    def explain(
        self,
        several: Sequence[Sequence[Picture]],
        cells: Cells,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """Return one explanation for each list of pictures; each picture is recorded in a run of its own."""
        total, nth = sum(len(pictures) for pictures in several), 0
        explanations = []
        for pictures in several:
            alone = []
            for picture in pictures:
                own = cells.rows(nth, nth + 1)
                recording = self._recorder.record(picture, own, cancellation, nth=nth, images=total)
                alone.append(self._explanation(recording))
                nth += 1
            explanations.append(joined(alone))
        return explanations

    def _explanation(self, recording: Recording) -> Explanation:
        """Return the explanation of one image by all methods."""
        made = [recording.explanation(name, relu=self.relu, fuse=self.fuse) for name in self.methods]
        return by_several_methods(made)
