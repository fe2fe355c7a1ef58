"""What makes the explanations of a job: an Explainer, or for several methods a Recorder, whose one run serves all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.fusion import Fusion, check_fusion
from onnx_xcam.cams.methods import find_method
from onnx_xcam.errors import XcamError
from onnx_xcam.explainer import Explainer, Explanation, Streamed
from onnx_xcam.explainer.model import OpenedModel
from onnx_xcam.explainer.recorder import Recorded, Recorder

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        image: as it was given.
        explanations: one for each method; none if it failed.
        error: why it failed, or None.
        seconds: what its runs took.
    """

    image: Path
    explanations: tuple[Explanation, ...]
    error: XcamError | None
    seconds: float


class Explaining:
    """Explains by one method or several.

    Attributes:
        model: the model that was opened.
        methods: names of the methods.
        relu, fuse: as for `Explainer`.
    """

    def __init__(
        self, model: Path, methods: Sequence[str], *, relu: bool, fuse: Fusion | None, options: Mapping[str, Any]
    ) -> None:
        """Open the model.

        Args:
            model: its file.
            methods: names of methods; at least one.
            relu, fuse: as for `Explainer`.
            options: the other ones of `Explainer`.

        Raises:
            XcamError: as `Explainer`.
        """
        names = list(dict.fromkeys(find_method(name).name for name in methods))
        self._recorder: Recorder | None = None
        if len(names) == 1:
            self._explainer = Explainer(model, method=names[0], relu=relu, fuse=fuse, **options)
            self.model: OpenedModel = self._explainer
            self.methods: tuple[str, ...] = (self._explainer.method,)
            self.relu, self.fuse = self._explainer.relu, self._explainer.fuse
        else:
            check_fusion(fuse, layers=None, relu=relu)
            self._recorder = Recorder(model, methods=names, **options)
            self.model = self._recorder
            self.methods, self.relu, self.fuse = tuple(names), relu, fuse
            check_fusion(fuse, layers=len(self.model.layers), relu=relu)

    @property
    def kind_of_maps(self) -> str:
        """What the maps show, in words."""
        shown = "what speaks for the class" if self.relu else "what speaks for the class and against it"
        return shown + (f", all layers in one by their {self.fuse}" if self.fuse else "")

    def stream(
        self, images: Iterable[Path], classes: NDArray[np.int64] | None, each: Callable[[Outcome], T]
    ) -> Iterator[T]:
        """What `each` makes of the outcome of every image, in order; see `Explainer.stream`."""
        if self._recorder is None:

            def explained(one: Streamed) -> T:
                made = () if one.explanation is None else (one.explanation,)
                return each(Outcome(one.image, made, one.error, one.seconds))

            return self._explainer.stream(images, classes, each=explained)

        def recorded(one: Recorded) -> T:
            return each(self._outcome(one))

        return self._recorder.stream(images, classes, each=recorded)

    def _outcome(self, recorded: Recorded) -> Outcome:
        recording = recorded.recording
        if recording is None:
            return Outcome(recorded.image, (), recorded.error, recorded.seconds)
        try:
            made = tuple(recording.explanation(name, relu=self.relu, fuse=self.fuse) for name in self.methods)
        except XcamError as error:
            return Outcome(recorded.image, (), error, recorded.seconds)
        return Outcome(recorded.image, made, None, recorded.seconds)
