"""Compare the maps of every CAM method with those of pytorch-grad-cam, torchcam and captum, before any scaling.

    python -m tools.peers.methods [--models resnet18 mobilenet_v2] [--most-channels 128] [--output FOLDER]

Needs torch, torchvision, timm, grad-cam, torchcam and captum. The models have random parameters (`torch_models.py`)
and are exported; the activations A and gradients G of a layer are recorded by onnx_xcam from the ONNX file and given to
the peers' own code in place of those that their hooks would catch. So what is compared is the formula alone, but for
Ablation-CAM and Score-CAM, for which the peers run the PyTorch model as often as they want, and captum, which takes its
own gradients.

Two columns: A and G as they are; and, for formulas that add an epsilon to powers of G, G scaled up so far that it does
not count. A third pass makes the peers' Score-CAM use the masks that onnx_xcam uses, resized between centres of pixels
and then brought to 0..1. Exit status 1 if a map that should be equal differs by more than 1e-4 of the largest value.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.methods import METHODS
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import LayerRecord
from onnx_xcam.surgery.instrument import instrument_bytes
from onnx_xcam.surgery.submodels.more_outputs import with_outputs
from tools.common import command_line, torch_models
from tools.common.sessions import session

TOLERANCE = 1e-4
CASES: dict[str, tuple[str, ...]] = {
    "resnet18": ("layer4", "layer3", "layer2", "layer1"),
    "vgg11_bn": ("features.27", "features.20", "features.13"),
    "squeezenet1_1": ("features.12", "features.7"),
    "mobilenet_v2": ("features.18", "features.14", "features.5"),
    "efficientnet_b0": ("features.8", "features.5"),
    "densenet121": ("features.norm5", "features.transition2"),
    "timm:repvgg_a0": ("stages.3", "stages.2"),
}
"""Models and their layers; of MobileNetV2's, EfficientNet's and DenseNet's some are signed."""
LARGE_GRADIENT = 1e6

Maps = Callable[["Case"], np.ndarray]


@dataclass
class Case:
    """A model, a layer, an image and a class.

    Attributes:
        model, layer: in PyTorch.
        content: the exported model.
        image: float32 [1,3,H,W].
        class_id: the class.
        record: what onnx_xcam recorded.
        gradients: G, [1,C,h,w], as recorded or scaled.
    """

    model: nn.Module
    layer: str
    content: bytes
    image: torch.Tensor
    class_id: int
    record: LayerRecord
    gradients: np.ndarray

    @property
    def module(self) -> nn.Module:
        """The module of torch whose output is the layer."""
        return self.model.get_submodule(self.layer)

    @property
    def activations(self) -> np.ndarray:
        """A, [1,C,h,w], of the gradients' type."""
        return self.record.A.reshape(1, -1, *self.record.size).astype(self.gradients.dtype)

    @property
    def channels(self) -> int:
        """The number of the layer's channels."""
        return len(self.record.A)

    @property
    def is_signed(self) -> bool:
        """Whether A has negative values."""
        return bool((self.record.A < 0).any())

    def ours(self, method: str) -> np.ndarray:
        """The map before the ReLU, [h,w]; by the formula alone where gradients were scaled."""
        formula = METHODS[method].formula
        if formula is None or METHODS[method].is_guided or self.gradients.dtype == np.float32:
            return self.record.raw(method)[0]
        xp = NumpyArrays()
        a, g = (values.reshape(1, self.channels, -1) for values in (self.activations, self.gradients))
        return np.asarray(map_of(xp, formula(xp, a, g[:, None], non_negative=not self.is_signed))).reshape(
            self.record.size
        )


# --- pytorch-grad-cam -------------------------------------------------------------------------------------------------


def pytorch_grad_cam(name: str, case: Case) -> np.ndarray:
    """A class of pytorch-grad-cam, given A and G; what it prints is dropped."""
    import pytorch_grad_cam as package
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = getattr(package, name)(model=case.model, target_layers=[case.module])
    targets = [ClassifierOutputTarget(case.class_id)]
    with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        found = cam.get_cam_image(case.image, case.module, targets, case.activations, case.gradients, False)
    cam.activations_and_grads.release()
    return np.asarray(found[0])


@contextlib.contextmanager
def centres_of_pixels() -> Iterator[None]:
    """Make pytorch-grad-cam's Score-CAM resize between centres of pixels, as onnx_xcam does, not between corners."""
    original = nn.UpsamplingBilinear2d

    class Upsampling(nn.Module):
        def __init__(self, size: Any) -> None:
            super().__init__()
            self.size = tuple(size)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.interpolate(x, self.size, mode="bilinear", align_corners=False)

    nn.UpsamplingBilinear2d = Upsampling  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        nn.UpsamplingBilinear2d = original  # type: ignore[misc]


def pytorch_grad_cam_same_masks(case: Case) -> np.ndarray:
    """pytorch-grad-cam's Score-CAM on onnx_xcam's masks."""
    with centres_of_pixels():
        return pytorch_grad_cam("ScoreCAM", case)


# --- torchcam ---------------------------------------------------------------------------------------------------------


def torchcam(name: str, case: Case, *, same_masks: bool = False) -> np.ndarray:
    """A class of torchcam, given A and G, without its ReLU and its scaling."""
    from torchcam import methods

    extractor = getattr(methods, name)(case.model, case.module)
    extractor._backprop = lambda *_, **__: None
    extractor._relu = False
    if same_masks:
        normalise = extractor._normalize
        grow = extractor._upsample
        extractor._normalize = lambda values, _axes: values
        extractor._upsample = lambda values: normalise(grow(values), 2)
    extractor.hook_a = [torch.from_numpy(case.activations)]
    extractor.hook_g = [torch.from_numpy(case.gradients.copy())]
    extractor._input = case.image
    with torch.no_grad():
        scores = case.model(case.image) if name != "ScoreCAM" else None
        extractor.hook_a = [torch.from_numpy(case.activations)]
        (found,) = extractor.compute_cams(case.class_id, scores, normalized=False)
    extractor.remove_hooks()
    return np.asarray(found[0])


def torchcam_plus_plus(case: Case) -> np.ndarray:
    """What torchcam's GradCAMpp computes, by hand: sum over space of ReLU(G)³.

    Its division, `alpha[mask].div_(...)`, is done on a copy that is then dropped; and it would divide by
    2 G² + sum(A G³), where the paper and pytorch-grad-cam have 2 G² + sum(A) G³.
    """
    weights = (np.maximum(case.gradients[0].astype(np.float64), 0) ** 3).sum((1, 2))
    return np.asarray((weights[:, None, None] * case.activations[0]).sum(0))


# --- captum -----------------------------------------------------------------------------------------------------------


def captum_grad_cam(case: Case) -> np.ndarray:
    """captum's LayerGradCam, which runs the model itself."""
    from captum.attr import LayerGradCam

    model = copy.deepcopy(case.model).double()
    with same_sides(case):
        found = LayerGradCam(model, model.get_submodule(case.layer)).attribute(case.image.double(), case.class_id)
    return np.asarray(found[0, 0].detach())


def captum_guided(case: Case) -> np.ndarray:
    """captum's GuidedBackprop, summed over the colours, times onnx_xcam's XGrad-CAM resized to the input."""
    from captum.attr import GuidedBackprop

    image = case.image.double().requires_grad_()
    with same_sides(case):
        guided = GuidedBackprop(copy.deepcopy(case.model).double()).attribute(image, case.class_id)
    small = torch.from_numpy(case.record.raw("xgrad-cam"))[None].double()
    large = functional.interpolate(small, case.image.shape[2:], mode="bilinear", align_corners=False)
    return np.asarray((guided.sum(1)[0] * large[0, 0]).detach())


@contextlib.contextmanager
def same_sides(case: Case) -> Iterator[None]:
    """PyTorch's ReLUs, one run of them, with ONNX Runtime's values and their own gradients.

    Among millions of inputs of ReLUs some are so close to 0, or to another one that a max pooling holds them against,
    that rounding decides; then a piece of the gradient is there in one runtime and not in the other.
    """
    values, original = _rectified(case), functional.relu

    def relu(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
        if not values:  # captum itself, on the way back
            return original(x)
        y = values.pop(0)
        return original(x + (torch.where(y > 0, y, -1e-3) - x).detach())

    functional.relu = relu  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.relu = original
    if values:
        raise SystemExit("PyTorch runs fewer ReLUs than the exported model has")


def _rectified(case: Case) -> list[torch.Tensor]:
    """What ONNX Runtime has behind each ReLU, in the model that gives gradients."""
    names = _rectifiers(case.content)
    if not names:
        return []
    made = instrument_bytes(case.content, layers=case.record.name, method="guided-xgrad-cam", emit=("map",))
    found = session(with_outputs(made, names), 1).run(names, {"image": case.image.numpy()})
    return [torch.from_numpy(values).double() for values in found]


def _rectifiers(content: bytes) -> list[str]:
    return [node.output[0] for node in onnx.ModelProto.FromString(content).graph.node if node.op_type == "Relu"]


def has_relu_modules(case: Case) -> bool:
    """Whether captum can guide all rectifiers: it knows those that are an nn.ReLU."""
    calls = []
    kinds = [m for m in case.model.modules() if isinstance(m, nn.ReLU)]
    hooks = [module.register_forward_hook(lambda *_: calls.append(1)) for module in kinds]
    with torch.no_grad():
        case.model(case.image)
    for hook in hooks:
        hook.remove()
    return 0 < len(calls) == len(_rectifiers(case.content))


# --- the comparison ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A peer's method and ours.

    Attributes:
        method: ours.
        peer: theirs.
        maps: runs it.
        runs: whether it runs the model once for each channel.
        scaled: whether it is also tried with G scaled up.
        fits: whether it should be equal in this case.
    """

    method: str
    peer: str
    maps: Maps
    runs: bool = False
    scaled: bool = False
    fits: Callable[[Case], bool] = lambda case: True


def _pgc(name: str) -> Maps:
    return lambda case: pytorch_grad_cam(name, case)


def _tc(name: str, **options: Any) -> Maps:
    return lambda case: torchcam(name, case, **options)


def is_unsigned(case: Case) -> bool:
    """The paper's XGrad-CAM is defined for A >= 0; so is an ablation by zero, to pytorch-grad-cam."""
    return not case.is_signed


def is_constant(case: Case) -> bool:
    """Whether G is constant over space."""
    g = case.record.G[0]
    return bool(np.abs(g - g[:, :1]).max() <= 1e-6 * np.abs(g).max())


def never(_: Case) -> bool:
    """False for all cases: the row differs by design, and is shown, not judged."""
    return False


ROWS = (
    Row("xgrad-cam", "pytorch-grad-cam XGradCAM", _pgc("XGradCAM"), fits=is_unsigned),
    Row("xgrad-cam", "torchcam XGradCAM", _tc("XGradCAM"), fits=is_unsigned),
    Row("grad-cam", "pytorch-grad-cam GradCAM", _pgc("GradCAM")),
    Row("grad-cam", "torchcam GradCAM", _tc("GradCAM")),
    Row("grad-cam", "captum LayerGradCam", captum_grad_cam),
    Row("grad-cam++", "pytorch-grad-cam GradCAMPlusPlus", _pgc("GradCAMPlusPlus"), scaled=True),
    Row("grad-cam++", "torchcam GradCAMpp", _tc("GradCAMpp"), scaled=True, fits=never),
    Row("hires-cam", "pytorch-grad-cam HiResCAM", _pgc("HiResCAM")),
    Row("layer-cam", "pytorch-grad-cam LayerCAM", _pgc("LayerCAM")),
    Row("layer-cam", "torchcam LayerCAM", _tc("LayerCAM")),
    Row("elementwise-grad-cam", "pytorch-grad-cam GradCAMElementWise", _pgc("GradCAMElementWise")),
    Row("eigen-cam", "pytorch-grad-cam EigenCAM, its sign turned", _pgc("EigenCAM")),
    Row("ablation-cam", "pytorch-grad-cam AblationCAM", _pgc("AblationCAM"), runs=True, fits=is_unsigned),
    Row("score-cam", "pytorch-grad-cam ScoreCAM", _pgc("ScoreCAM"), runs=True, fits=never),
    Row("score-cam", "pytorch-grad-cam ScoreCAM on our masks", pytorch_grad_cam_same_masks, runs=True),
    Row("score-cam", "torchcam ScoreCAM", _tc("ScoreCAM"), runs=True, fits=never),
    Row("score-cam", "torchcam ScoreCAM on our masks", _tc("ScoreCAM", same_masks=True), runs=True),
    Row("guided-xgrad-cam", "captum GuidedBackprop, times our map", captum_guided),
)


def difference(row: Row, case: Case) -> float:
    """The largest difference of the maps, relative to the largest value."""
    ours, theirs = (np.asarray(values, np.float64) for values in (case.ours(row.method), row.maps(case)))
    if row.method == "eigen-cam" and (ours * theirs).sum() < 0:
        theirs = -theirs
    return float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), np.abs(theirs).max()))


def cases(name: str, layers: tuple[str, ...], seed: int) -> Iterator[tuple[str, Case]]:
    """Every layer of a model, with the class that the model sees."""
    model = torch_models.build(name)
    images = torch_models.test_images(name, 3)
    torch_models.randomise(model, images, seed)
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch_models.export(model, images.shape[-1], path, "torchscript", "dynamic")
        content = path.read_bytes()
    recorder = Recorder(content, list(layers), methods=list(METHODS), ablations=True, preprocess="imagenet")
    (picture,) = recorder.model.pictures(images[:1])
    recording = recorder.record(picture, recorder.choose([-1]))
    for layer, record in zip(layers, recording.layers, strict=True):
        gradients = record.G[:1].reshape(1, -1, *record.size)
        image = torch.from_numpy(images[:1])
        chosen = int(recording.classes[0])
        yield layer, Case(model, layer, content, image, chosen, record, gradients)


@dataclass(frozen=True)
class Found:
    """What came out of one row and case: the differences, and whether they should be nothing."""

    row: Row
    where: str
    plain: float
    scaled: float | None
    judged: bool

    @property
    def failed(self) -> bool:
        """Whether it should be equal and is not."""
        return self.judged and not (self.plain if self.scaled is None else self.scaled) <= TOLERANCE


def compare(name: str, layers: tuple[str, ...], options: argparse.Namespace) -> Iterator[Found]:
    """Every method and peer at every layer of a model."""
    for layer, case in cases(name, layers, options.seed):
        where = f"{name} {layer}"
        known = "signed" if case.is_signed else "A >= 0"
        print(f"{where}: {known}, {case.channels} channels, G {'constant' if is_constant(case) else 'varies'}")
        large = case.gradients.astype(np.float64) * (LARGE_GRADIENT / np.abs(case.gradients).max())
        for row in ROWS:
            if row.runs and case.channels > options.most_channels:
                continue
            if row.method == "guided-xgrad-cam" and not has_relu_modules(case):
                continue
            scaled = None
            if row.scaled:
                scaled = difference(row, dataclasses.replace(case, gradients=large))
            found = Found(row, where, difference(row, case), scaled, row.fits(case))
            more = "" if scaled is None else f", G scaled {scaled:.1e}"
            said = "FAILED" if found.failed else "" if found.judged else "differs by design"
            print(f"  {row.method:20} {row.peer:44} {found.plain:.1e}{more} {said}")
            yield found
        theirs, by_hand = torchcam("GradCAMpp", case), torchcam_plus_plus(case)
        off = np.abs(theirs - by_hand).max() / np.abs(by_hand).max()
        print(f"  torchcam's GradCAMpp is sum(ReLU(G)³): {off:.1e}")


def table(results: list[Found]) -> str:
    """All results in Markdown, a line for each method and peer."""
    lines = ["| method | peer | layers | largest difference | with G scaled | |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        for judged in (True, False):
            own = [one for one in results if one.row is row and one.judged is judged]
            if not own:
                continue
            scaled = [one.scaled for one in own if one.scaled is not None]
            worst = f"{max(scaled):.0e}" if scaled else ""
            note = "equal" if judged else "another definition"
            plain = max(one.plain for one in own)
            lines.append(f"| `{row.method}` | {row.peer} | {len(own)} | {plain:.0e} | {worst} | {note} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, compare, and say what was found."""
    parser = command_line.parser("tools.peers.methods", __doc__)
    parser.add_argument("--models", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--most-channels", type=int, default=128, help="of Ablation-CAM and Score-CAM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    results = [one for name in options.models for one in compare(name, CASES[name], options)]
    packages = ("torch", "torchvision", "timm", "grad-cam", "torchcam", "captum", "onnxruntime")
    text = table(results) + "\n\n" + ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    print(f"\n{text}")
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    failed = [one for one in results if one.failed]
    for one in failed:
        print(f"{one.where}: {one.row.method} and {one.row.peer} differ by {one.plain:.1e}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
