"""This module lists the CAM methods by name, with what each needs and its formula."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.cams.contributions import Contributions
from onnx_xcam.cams.grad import grad_cam, grad_cam_plus_plus
from onnx_xcam.cams.local_xgrad import local_xgrad_cam
from onnx_xcam.cams.pointwise import elementwise_grad_cam, hires_cam, layer_cam
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.common.arguments import text
from onnx_xcam.errors import XcamError

DEFAULT_METHOD = "xgrad-cam"
"""This method suits scores of a whole picture."""
OBJECTS_METHOD = "local-xgrad-cam"
"""This method suits scores with a place, such as those of objects."""
AUTO_METHOD = "auto"
"""This name stands for the method that suits the score: `xgrad-cam`, or `local-xgrad-cam` for a score with a place."""

Needs = Literal["gradients", "guided gradients", "activations", "ablations", "masks"]


class Formula(Protocol):
    """A Formula computes a map from the activations and the gradients of one run."""

    def __call__(self, xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
        """Return the contributions of the channels to the map before the ReLU.

        Args:
            xp: the array library that the other arguments belong to.
            activations: A, `[N, C, S]` with S = h w.
            gradients: G, `[N, K, C, S]`, or `[N, K, C, 1]` if it is constant over space.
            non_negative: whether A is known to hold no negative value.
        """


@dataclass(frozen=True)
class Method:
    """A Method says how a map is made from a layer.

    Attributes:
        name: the name in options and metadata.
        title: the name in papers.
        needs: "gradients" (one run gives all), "guided gradients" (those of the input too), "activations",
            "ablations" (the part behind the layer runs once for each channel), or "masks" (the whole model runs once
            for each channel).
        formula: how the map is computed from A and G; None for methods that compute it otherwise. Guided XGrad-CAM
            multiplies the map of its formula with the guided gradient of the input.
        conserves: whether the map, before the ReLU, sums to sum(G A) whatever A and G are.
        is_local: whether the map is zero wherever G is, and depends on no A there: it can be computed of a part of the
            positions that has all of G that is not zero.
    """

    name: str
    title: str
    needs: Needs
    formula: Formula | None = None
    conserves: bool = False
    is_local: bool = False

    @property
    def is_emitted(self) -> bool:
        """Tell whether an instrumented model can compute the method: it takes one run and standard operators."""
        return self.formula is not None

    @property
    def is_guided(self) -> bool:
        """Tell whether the method uses guided gradients, whose maps have the input's resolution."""
        return self.needs == "guided gradients"


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("xgrad-cam", "XGrad-CAM", "gradients", xgrad_cam, conserves=True),
        Method("local-xgrad-cam", "Local XGrad-CAM", "gradients", local_xgrad_cam, conserves=True, is_local=True),
        Method("grad-cam", "Grad-CAM", "gradients", grad_cam),
        Method("grad-cam++", "Grad-CAM++", "gradients", grad_cam_plus_plus),
        Method("hires-cam", "HiResCAM", "gradients", hires_cam, conserves=True, is_local=True),
        Method("layer-cam", "LayerCAM", "gradients", layer_cam, is_local=True),
        Method("elementwise-grad-cam", "Element-wise Grad-CAM", "gradients", elementwise_grad_cam, is_local=True),
        Method("guided-xgrad-cam", "Guided XGrad-CAM", "guided gradients", xgrad_cam),
        Method("eigen-cam", "Eigen-CAM", "activations"),
        Method("ablation-cam", "Ablation-CAM", "ablations"),
        Method("score-cam", "Score-CAM", "masks"),
    )
}
EMITTED = tuple(method.name for method in METHODS.values() if method.is_emitted)
"""These methods can be computed by an instrumented model."""
_OTHER_SPELLINGS = {"gradcamelementwise": "elementwise-grad-cam", "elementwisecam": "elementwise-grad-cam"}


def find_method(name: str) -> Method:
    """Return the method of this name; capitals, hyphens and the spelling of ++ do not matter.

    Raises:
        XcamError: no method has this name.
    """
    key = _simplified(text("method", name))
    known_name = _OTHER_SPELLINGS.get(key) or next((known for known in METHODS if _simplified(known) == key), None)
    if known_name is None:
        raise XcamError(f"There is no method {name!r}; there are {', '.join(METHODS)}.")
    return METHODS[known_name]


def emitted_method(name: str) -> Method:
    """Return the method of this name, which an instrumented model is to compute.

    Raises:
        XcamError: no method has this name, or no model can compute it.
    """
    method = find_method(name)
    if not method.is_emitted:
        raise XcamError(
            f"{method.title} cannot be put into a model: {_REASONS[method.needs]}. `explain --method {method.name}` "
            f"runs it. What a model can carry: {', '.join(EMITTED)}."
        )
    return method


_REASONS: Mapping[Needs, str] = {
    "activations": "ONNX has no operator for the singular vectors that it needs",
    "ablations": "it runs a part of the model once for each channel of the layer",
    "masks": "it runs the model once for each channel of the layer",
}
"""Why an instrumented model cannot compute a method, by what the method needs."""


def _simplified(name: str) -> str:
    """Reduce a name to lower-case letters and digits, with "pp" for ++ and "plusplus"."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp").replace("plusplus", "pp"))
