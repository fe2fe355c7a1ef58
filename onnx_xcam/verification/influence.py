"""This module checks by runs whether the images of a batch influence each other in an instrumented model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from onnx_xcam import contract
from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.runtime import Session
from onnx_xcam.surgery.axes.batch_independence import TOLERANCE, difference, rounds, scaled_by_run

_TURNED_BY_LAST_DIGITS = (contract.output_name("activations"), contract.output_name("gradients"))
"""The outputs that are not compared: where two values of a MaxPool's window are nearly equal, the last digit decides
which one the gradient goes to."""


_CHOSEN = {contract.CLASS_INPUT: contract.CLASSES, contract.OBJECT_INPUT: contract.OBJECTS}
"""The outputs that say what was chosen, by the inputs that choose it."""


@dataclass(frozen=True)
class RowsCheck:
    """A RowsCheck compares two different images in one run with each image run by itself.

    Attributes:
        difference: the largest difference of outputs, scores and maps, relative to the largest value; None where they
            were not compared.
        output: the output with the largest difference.
        tolerance: the largest difference that is allowed.
        scaled_by_run: whether the model scales integers by all images of a run. The original model does so too, so that
            a difference is a warning only.
        not_compared: why they were not compared, or None.
    """

    difference: float | None
    output: str = ""
    tolerance: float = 0.0
    scaled_by_run: bool = False
    not_compared: str | None = None

    @property
    def passed(self) -> bool:
        """Tell whether images do not influence each other, except by the scale of a run."""
        return self.difference is None or self.difference <= self.tolerance or self.scaled_by_run

    @property
    def warning(self) -> str | None:
        """Return a warning if images influence each other by the scale of a run, else None."""
        if self.difference is None or self.difference <= self.tolerance or not self.scaled_by_run:
            return None
        return (
            f"the images of a run influence each other, '{self.output}' by {self.difference:.1e} of its largest value: "
            "the model scales its integers by the whole run (DynamicQuantizeLinear); run one image at a time"
        )

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        if self.not_compared is not None:
            return [f"      images of a run not compared with each alone: {self.not_compared}"]
        if self.difference is None or self.warning:
            return [f"warning: {self.warning}"] if self.warning else []
        if self.passed:
            return [f"ok    images of a run: each gives what it gives alone (difference {self.difference:.1e})"]
        return [
            f"FAIL  images of a run influence each other: '{self.output}' of an image differs by {self.difference:.1e} "
            "of its largest value from what it is when the image is run alone"
        ]


def check_rows(
    graph: onnx.GraphProto, session: Session, feeds: Mapping[str, np.ndarray], rng: np.random.Generator
) -> RowsCheck | None:
    """Run two different images together and each by itself, and compare; None if the model takes one image only.

    A model with a fixed batch size N is run with N images: copies of the first one and one other image.
    """
    infos = {info.name: info for info in (*session.inputs, *session.optional_inputs)}
    picture = next((name for name in feeds if infos[name].shape[1:] and contract.image_axes(infos[name].shape)), None)
    batch = infos[picture].shape[0] if picture else 1
    if picture is None or batch == 1:
        return None
    count = batch if isinstance(batch, int) else 2
    per_image = [name for name in feeds if name == picture or (infos[name].shape[:1] == (batch,) and batch is not None)]

    def run(rows: Sequence[int], chosen: Mapping[str, np.ndarray]) -> dict[str, Any]:
        given = {name: value for name, value in feeds.items() if name not in per_image}
        given |= {name: np.stack([images[name][row] for row in rows]) for name in per_image}
        return session.run({**given, **chosen}, [out.name for out in session.outputs])

    images = {name: [feeds[name][0], feeds[name][-1]] for name in per_image}
    first = images[picture][0]
    images[picture][1] = rng.permuted(first.reshape(-1)).reshape(first.shape)
    rows = [0] * (count - 1) + [1]
    try:
        together = run(rows, {contract.CLASS_INPUT: np.array([[-1]], np.int64)})
        chosen = {name: together[out] for name, out in _CHOSEN.items() if out in together}
        if len(chosen[contract.CLASS_INPUT]) != count:
            return RowsCheck(None, not_compared="the model makes one answer of all of them")
        same = count if batch == count else 1
        alone = {
            n: run([rows[n]] * same, {name: ids[n : n + 1] for name, ids in chosen.items()}) for n in (0, count - 1)
        }
    except (ModelError, InputError) as error:
        return RowsCheck(None, not_compared=f"the model cannot be run so ({str(error)[:200]})")
    differences = [
        (difference(value[n], one[name][0]), name)
        for n, one in alone.items()
        for name, value in together.items()
        if not name.startswith(_TURNED_BY_LAST_DIGITS)
        and isinstance(value, np.ndarray)
        and value.ndim
        and value.dtype.kind not in "OSU"
        and len(value) == count
        and len(one[name])
    ]
    worst, name = max(differences, default=(0.0, ""))
    return RowsCheck(worst, name, TOLERANCE[not rounds(graph)], scaled_by_run(graph))
