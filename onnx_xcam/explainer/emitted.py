"""This module has the engine for models that emit their own maps: one run gives classes, scores, maps and status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.status import map_status
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.load import load_model
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.places import boxes_in_photos
from onnx_xcam.explainer.running import run_all
from onnx_xcam.runtime import Cancellation
from onnx_xcam.runtime.batching import IMAGES_PER_RUN_OF_A_STREAM
from onnx_xcam.surgery.files.source import ModelLike


class EmittedMaps:
    """EmittedMaps makes explanations by the one method that the instrumented model emits; see `Engine`."""

    def __init__(
        self, model: ModelLike, method: str, options: ModelOptions, *, relu: bool, fuse: Fusion | None
    ) -> None:
        """Open a model, and instrument it unless it is instrumented already.

        Args:
            model, options, relu, fuse: as for `Explainer`.
            method: the method that is emitted, or "auto" for the one that suits the score.

        Raises:
            XcamError: as `load_model` and `OpenModel`.
        """
        self.model = OpenModel(load_model(model, options, method=method, relu=relu, fuse=fuse), options)
        metadata = self.model.loaded.metadata
        self.methods: tuple[str, ...] = (metadata.method,)
        self.relu = metadata.relu
        self.fuse = cast("Fusion | None", metadata.fuse)

    @property
    def images_per_group(self) -> int:
        """Return the number of images of a stream that share a run."""
        on_cpu = self.model.providers[0] == "CPUExecutionProvider"
        return self.model.batch or (1 if on_cpu else IMAGES_PER_RUN_OF_A_STREAM)

    def explain(
        self,
        several: Sequence[Sequence[Picture]],
        cells: Cells,
        cancellation: Cancellation | None = None,
    ) -> list[Explanation]:
        """Return one explanation for each list of pictures; all lists share the runs."""
        pictures = [picture for one in several for picture in one]
        batch = np.stack([picture.item for picture in pictures]) if len(pictures) > 1 else pictures[0].item[None]
        cells = self.model.locator.located(cells, pictures, cancellation)
        results = run_all(self.model.loaded, batch, cells, cancellation)
        if cells.against is not None:
            results[contract.AGAINST_INPUT] = np.broadcast_to(cells.against, results[contract.CLASSES].shape)
        if len(several) == 1:
            return [self._explanation(pictures, results)]
        ends = np.cumsum([len(one) for one in several]).tolist()
        return [
            self._explanation(one, {name: value[end - len(one) : end] for name, value in results.items()})
            for one, end in zip(several, ends, strict=True)
        ]

    def _explanation(self, pictures: Sequence[Picture], results: dict[str, NDArray[Any]]) -> Explanation:
        """Return the explanation of these pictures, which the outputs of their runs, by name, hold."""
        loaded = self.model.loaded
        classes, source = results[contract.CLASSES], loaded.probabilities
        maps = [results[name] for name in loaded.outputs("map")]
        states = [results[name] for name in loaded.outputs("status")]
        own = source.of(results[source.output], classes) if source else None
        notes, warnings = self._batch_remarks(len(pictures))
        return Explanation(
            classes=classes,
            scores=results[contract.SCORES],
            probabilities=results.get(contract.PROBABILITIES, own),
            maps=maps,
            status=states if len(states) == len(maps) else [map_status(one) for one in maps],
            labels=self.model.labels,
            layers=loaded.shown_layers,
            names=loaded.shown_names,
            pictures=pictures,
            notes=(*self.model.notes, *notes),
            run_warnings=warnings,
            method=self.methods[0],
            signed=not self.relu,
            is_number=loaded.is_number,
            fused=results[contract.FUSED] if loaded.fused else None,
            task=self.model.task,
            objects=results.get(contract.OBJECTS),
            boxes=boxes_in_photos(results.get(contract.BOXES), results.get(contract.OBJECTS), pictures),
            against=results.get(contract.AGAINST_INPUT),
        )

    def _batch_remarks(self, images: int) -> tuple[list[str], list[str]]:
        """Return the notes and the warnings on images that influence each other in a run; a warning is given once."""
        rows, batch = self.model.loaded.rows, self.model.batch
        if not rows.mixed or (images == 1 and not batch):
            return [], []
        note = "Batch: the images of a run influence each other in this model"
        if not batch:
            return [f"{note}, so each is run by itself."], []
        warning = f"{note}, which takes {batch}, so each is run with copies of itself; among others it would differ."
        return [], [warning] if rows.is_news() else []
