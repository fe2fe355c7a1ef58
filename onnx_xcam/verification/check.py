"""This module holds `check`, which proves that the instrumented form of one model is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnx_xcam.cams.methods import AUTO_METHOD, DEFAULT_METHOD, emitted_method
from onnx_xcam.common.arguments import short_repr, text
from onnx_xcam.errors import InputError, XcamError
from onnx_xcam.explainer.other_pictures import model_infos, read_pictures
from onnx_xcam.feeds import InputValue, free_picture
from onnx_xcam.surgery.files.external import Folders
from onnx_xcam.surgery.files.source import ModelLike, Source
from onnx_xcam.surgery.targets.analysis import Request, analyse, diagnosed
from onnx_xcam.verification.axioms import check_maps
from onnx_xcam.verification.observed import Observed
from onnx_xcam.verification.products import check_node
from onnx_xcam.verification.report import CheckReport

_LEAST = 0.0
"""Candidates above this probability count as objects, so that a picture of random numbers has one too."""


def check(
    model: ModelLike,
    image: np.ndarray | None = None,
    *,
    layers: str | Sequence[str] = "auto",
    score: str = "auto",
    method: str = AUTO_METHOD,
    task: str = "auto",
    inputs: Mapping[str, InputValue] | None = None,
    allow_folders: Folders = (),
) -> CheckReport:
    """Prove on this model, with these values, that its instrumented form is right.

    - The original outputs are unchanged at ONNX Runtime's default level of optimisation; those of a quantised model,
      on several pictures, differ no more than among the levels of optimisation, and have the same top class.
    - For each differentiated node, on the model's own values (moved a little, away from kinks and ties):
      <gy, J v> from central differences equals <Jᵀ gy, v> from the rule, in float64, by onnx's reference evaluator.
      For a quantised model, this is done on the float model that is left without the rounding; the clipping stays in.
    - Where ONNX Runtime's sums of 8-bit products saturate on this processor, the outputs are compared with those in
      exact arithmetic. A difference is a warning.
    - The emitted map is what the formula gives on the emitted A and G, and it sums to sum(G A) before the ReLU.

    Args:
        model: a plain model.
        image: a ready input `[N, ...]`; random numbers by default.
        layers: the layers to explain, as for `instrument`.
        score: the score to explain, as for `instrument`.
        method: the CAM method, as for `instrument`.
        task: the vision task, as for `instrument`. Of a detector the best candidate is explained, however low its
            probability is.
        inputs: the values of inputs beside the picture, as `Explainer` takes them; random by default, but with an image
            of your own all of them must be given.
        allow_folders: folders in which external data may lie, as for `instrument`.

    Raises:
        XcamError: what `instrument` raises; ModelError if the model cannot be run.
    """
    if text("method", method) != AUTO_METHOD and emitted_method(method).is_guided:
        raise XcamError(
            "check compares a map with its formula on A and G, but a guided one is made of the input's gradient too; "
            f"check '{DEFAULT_METHOD}', which it multiplies."
        )
    if image is not None and not (isinstance(image, np.ndarray) and image.ndim and image.dtype.kind in "fiub"):
        raise InputError(
            f"image is {short_repr(image)}; it must be an array of numbers [N,...], as the model takes them."
        )
    source = Source(model, allow_folders=allow_folders)
    with diagnosed(source):
        inputs, _ = read_pictures(source.skeleton(), source.path, inputs, None)
        request = Request(layers=layers, score=score, picture=_picture(source, inputs), task=task)
        analysis = analyse(source, request)
        if analysis.target.candidates is not None:
            analysis = analyse(source, replace(request, conf=_LEAST))
        seen = Observed(source, analysis, method, image, inputs)
        return CheckReport(
            seen.source.name.strip("'"),
            seen.outputs,
            [check_node(seen, step) for step in seen.steps],
            check_maps(seen),
            list(dict.fromkeys([*seen.notes, *seen.metadata.notes])),
            seen.rows,
            seen.processor,
        )


def _picture(given: Source, inputs: Mapping[str, InputValue] | None) -> str:
    """Return the name of the input whose picture is explained, which is the one without a given value."""
    return free_picture(model_infos(given.skeleton()), inputs or {})
