"""Compare the perturbation metrics with pytorch-grad-cam, torchcam and quantus, on the sample model in ONNX Runtime.

    python -m tools.peers.perturbation [MODEL] [PHOTO ...]

The model is wrapped as a torch module, so that all look at the same confidences. Noise is off and what is away is zero,
as in those packages; maps have no two equal values, since each breaks ties in its own way. Printed is the largest
difference, and how long each took. Needs torch, grad-cam, torchcam and quantus.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import onnx_xcam
from onnx_xcam.evaluation import perturbation
from onnx_xcam.evaluation.perturbation import METRICS, ROAD_PARTS, Faithfulness, faithfulness
from onnx_xcam.images.impute import impute
from onnx_xcam.runtime import Session, open_session
from tools.common import command_line
from tools.common.folders import PHOTOS, SAMPLE_MODELS

STEPS = 16


class InOnnxRuntime(torch.nn.Module):
    """A model's probabilities, float32 [N,C], as a torch module."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Run the model."""
        name, output = self.session.inputs[0].name, self.session.outputs[0].name
        logits = self.session.run({name: batch.detach().numpy().astype(np.float32)}, [output])[output]
        return torch.softmax(torch.from_numpy(logits).double(), dim=1).float()


class Case:
    """A photo, its top class, and maps [M,H,W] of it."""

    def __init__(self, model: InOnnxRuntime, explainer: onnx_xcam.Explainer, photo: Path) -> None:
        self.model, self.name = model, photo.name
        self.item = explainer.prepare(photo).item
        explanation = explainer.explain(photo)
        self.class_id = int(explanation.classes[0, 0])
        random = np.random.default_rng(0)
        own = explanation.maps[0, 0]
        own = np.where(own > 0, own, -0.1 * own.max() * random.random(own.shape))
        maps = [own, random.normal(size=(7, 7)), random.normal(size=(28, 28))]
        size = self.item.shape[1:]
        self.maps = np.stack([self._enlarged(one, size) for one in maps])

    @staticmethod
    def _enlarged(values: NDArray[Any], size: tuple[int, ...]) -> NDArray[np.float32]:
        """A map enlarged linearly, and by a hair different in every pixel."""
        tensor = torch.from_numpy(np.asarray(values, np.float64))[None, None]
        large = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0, 0].numpy()
        order = np.argsort(large + 1e-6 * np.random.default_rng(1).random(size), axis=None)
        distinct = np.empty(large.size, np.float32)
        distinct[order] = np.linspace(0, 1, large.size, dtype=np.float64)
        return distinct.reshape(size)

    def predict(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The class's probability, [B,1]."""
        return self.model(torch.from_numpy(batch)).numpy()[:, [self.class_id]]

    def ours(self, metrics: Sequence[str] = METRICS) -> list[Faithfulness]:
        """All metrics, without noise."""
        columns = [0] * len(self.maps)
        options: dict[str, Any] = {"channels_last": False, "background": "zero", "steps": STEPS, "metrics": metrics}
        return faithfulness(self.predict, self.item, self.maps, columns, **options)


def imputing(case: Case) -> tuple[float, float, float]:
    """Compare the imputed pictures themselves, at all parts: in standard deviations of the picture."""
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    picture = case.item
    difference = 0.0
    seconds = [0.0, 0.0]
    for values in case.maps:
        for part in ROAD_PARTS:
            missing = values >= np.quantile(values, 1 - part)
            started = time.perf_counter()
            ours = impute(np.ascontiguousarray(picture.transpose(1, 2, 0)), missing).transpose(2, 0, 1)
            seconds[0] += time.perf_counter() - started
            started = time.perf_counter()
            theirs = NoisyLinearImputer(noise=0)(torch.from_numpy(picture), torch.from_numpy(np.float32(~missing)))
            seconds[1] += time.perf_counter() - started
            difference = max(difference, float(np.abs(ours - theirs.numpy()).max() / picture.std()))
    return difference, seconds[0], seconds[1]


def road(case: Case) -> tuple[float, float, float]:
    """Compare with ROADCombined of pytorch-grad-cam, with its imputer's noise off."""
    from pytorch_grad_cam.metrics import road as theirs_road
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    ours, seconds = _timed(lambda: case.ours(["road"]))
    imputer = theirs_road.NoisyLinearImputer
    theirs_road.NoisyLinearImputer = type("WithoutNoise", (imputer,), {"__init__": lambda it: imputer.__init__(it, 0)})
    try:
        batch = torch.from_numpy(np.stack([case.item] * len(case.maps)))
        targets = [ClassifierOutputTarget(case.class_id)] * len(case.maps)
        theirs, their_seconds = _timed(lambda: theirs_road.ROADCombined()(batch, case.maps, targets, case.model))
    finally:
        theirs_road.NoisyLinearImputer = imputer
    return _difference(ours, "road", theirs), seconds, their_seconds


def drop(case: Case) -> tuple[float, float, float]:
    """Compare with torchcam's ClassificationMetric, and pytorch-grad-cam's DropInConfidence, not divided by Y."""
    from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam.metrics import ClassificationMetric

    ours, seconds = _timed(lambda: case.ours(["drop", "increase"]))
    whole = float(case.predict(case.item[None])[0, 0])
    difference = 0.0
    started = time.perf_counter()
    for values, one in zip(case.maps, ours, strict=True):
        metric = ClassificationMetric(_Extractor(case.model, values))
        metric.update(torch.from_numpy(case.item[None]), case.class_id)
        summary = metric.summary()
        difference = max(difference, abs(summary["avg_drop"] - _value(one, "drop")))
        difference = max(difference, abs(summary["conf_increase"] - _value(one, "increase")))
    their_seconds = time.perf_counter() - started
    batch = torch.from_numpy(np.stack([case.item] * len(case.maps)))
    targets = [ClassifierOutputTarget(case.class_id)] * len(case.maps)
    absolute = DropInConfidence()(batch, case.maps[:, None], targets, case.model)
    return max(difference, _difference(ours, "drop", absolute / whole)), seconds, their_seconds


def deletion(case: Case) -> tuple[float, float, float]:
    """Compare with quantus's PixelFlipping, given a pixel's channels one by one; it lacks the curve's first point."""
    import quantus

    ours, seconds = _timed(lambda: case.ours(["deletion"]))
    channels, height, width = case.item.shape
    if (height * width) % STEPS:
        raise SystemExit(f"{height}x{width} pixels cannot be taken in {STEPS} equal steps, as quantus does.")
    order = np.argsort(np.argsort(-case.maps.reshape(len(case.maps), -1), axis=1), axis=1).reshape(case.maps.shape)
    attributions = -(order[:, None] * channels + np.arange(channels)[:, None, None]).astype(np.float64)
    flipping = quantus.PixelFlipping(
        features_in_step=height * width // STEPS,  # of a picture with one channel: C times as many steps as ours
        perturb_baseline=0.0,
        normalise=False,
        disable_warnings=True,
    )
    batch = np.stack([case.item] * len(case.maps))
    labels = np.full(len(case.maps), case.class_id)
    theirs, their_seconds = _timed(
        lambda: flipping(case.model, batch, labels, attributions, channel_first=True, softmax=False)
    )
    curves = np.array([one.curves["deletion"][1:] for one in ours])
    return float(np.abs(curves - np.array(theirs)[:, channels - 1 :: channels]).max()), seconds, their_seconds


def curves(case: Case) -> tuple[float, float, float]:
    """Compare both areas with torchcam's DeletionInsertionMetric, with OpenCV's blur (RISE: 11 pixels, sigma 5)."""
    import cv2
    from torchcam.metrics import DeletionInsertionMetric

    def blurred(batch: torch.Tensor) -> torch.Tensor:
        picture = np.ascontiguousarray(batch[0].numpy().transpose(1, 2, 0))
        soft = cv2.GaussianBlur(picture, (11, 11), 5, borderType=cv2.BORDER_REFLECT)
        return torch.from_numpy(np.ascontiguousarray(soft.transpose(2, 0, 1)))[None]

    if case.item.shape[1:] != (224, 224):
        raise SystemExit("RISE's blur is one of 224x224 pixels; give a model that takes these.")
    ours, seconds = _timed(lambda: case.ours(["insertion", "deletion"]))
    difference = 0.0
    started = time.perf_counter()
    for values, one in zip(case.maps, ours, strict=True):
        for name, baseline in (("deletion", None), ("insertion", blurred)):
            metric = DeletionInsertionMetric(_Extractor(case.model, values), steps=STEPS, baseline=baseline)
            metric.update(torch.from_numpy(case.item[None]), case.class_id)
            difference = max(difference, abs(metric.summary()[f"{name}_auc"] - _value(one, name)))
    return difference, seconds, time.perf_counter() - started


class _Extractor:
    """What torchcam asks a map of."""

    def __init__(self, model: torch.nn.Module, values: NDArray[np.float32]) -> None:
        self.model, self._values = model, values

    def __call__(self, *_: Any, **__: Any) -> list[torch.Tensor]:
        return [torch.from_numpy(self._values)[None]]

    def fuse_cams(self, cams: list[torch.Tensor]) -> torch.Tensor:
        return cams[0]

    @contextlib.contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def _value(one: Faithfulness, name: str) -> float:
    value = one.metrics[name]
    assert value is not None
    return value


def _difference(ours: Sequence[Faithfulness], name: str, theirs: Sequence[float]) -> float:
    return max(abs(_value(one, name) - float(other)) for one, other in zip(ours, theirs, strict=True))


def main() -> None:
    """Compare on every photo."""
    parser = command_line.parser("tools.peers.perturbation", __doc__)
    parser.add_argument("model", type=Path, nargs="?", default=SAMPLE_MODELS / "efficientnet_lite0.onnx")
    parser.add_argument("photos", type=Path, nargs="*", default=sorted(PHOTOS.iterdir()))
    options = parser.parse_args()
    model_path, photos = options.model, options.photos
    model = InOnnxRuntime(open_session(model_path, providers="cpu")).eval()
    explainer = onnx_xcam.Explainer(model_path, providers="cpu")
    perturbation._NOISE = 0.0
    print(f"{'photo':14}{'metric':12}{'largest difference':>20}{'ours':>10}{'theirs':>10}")
    for photo in photos:
        case = Case(model, explainer, photo)
        for compare in (imputing, road, drop, deletion, curves):
            difference, ours, theirs = compare(case)
            print(f"{case.name:14}{compare.__name__:12}{difference:20.2g}{ours:9.2f}s{theirs:9.2f}s", flush=True)


if __name__ == "__main__":
    main()
