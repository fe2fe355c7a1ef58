"""What the tests of producers share: photos, a model of any input, and the difference from a producer's own tensor."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_xcam import Explainer, XcamError
from onnx_xcam.images import InputSpec, Preprocess, preprocess_image

Measure = Callable[[Path], float]
"""Takes an empty folder and returns the largest difference of one case from the producer's own tensors."""
Found = Mapping[str, float | str]
"""What was measured: of each case the difference, or the sentence with which it was refused."""

LARGEST_DIFFERENCE = 0.01
"""The largest difference from a producer's own tensor that counts as the same; 1 would be as wrong as noise."""
SIZES = ((427, 640), (500, 375), (301, 333))
"""The (height, width) of the photos: oblong, upright, and nearly square with odd sides, where roundings differ."""


def library(name: str) -> ModuleType:
    """Return a producer's own library; skip the test without it, unless XCAM_REQUIRE_PRODUCERS=1 demands it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("XCAM_REQUIRE_PRODUCERS") == "1":
            raise
        pytest.skip(f"needs {name}: {error}")


def installed(*names: str) -> None:
    """Skip the test, or fail as `library` does, where a producer's own libraries are not installed; import none."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("XCAM_REQUIRE_PRODUCERS") == "1":
        raise ModuleNotFoundError(f"needs {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def distributions(*names: str) -> None:
    """Skip the test, or fail as `library` does, where packages of these names are not installed."""
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if os.environ.get("XCAM_REQUIRE_PRODUCERS") == "1":
                raise
            pytest.skip(f"needs {name}")


def measured(cases: Mapping[str, Measure]) -> Found:
    """Return what the measures of some cases return, or the sentences of their refusals."""
    found: dict[str, float | str] = {}
    for case, measure in cases.items():
        with TemporaryDirectory() as folder:
            try:
                found[case] = measure(Path(folder))
            except XcamError as error:
                found[case] = str(error)
    return found


def photos() -> list[NDArray[np.uint8]]:
    """Return three RGB photos, [H,W,3] uint8, with smooth parts, edges and texture, each in other sides and colours."""
    made = []
    for seed, (height, width) in enumerate(SIZES):
        random = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width]
        photo = np.empty((height, width, 3))
        for channel in range(3):
            row, column = random.uniform(0.2, 0.8, 2)
            blob = np.exp(-((y / height - row) ** 2 + (x / width - column) ** 2) / 0.05)
            waves = np.sin(x / 17 + 2 * channel) * np.cos(y / (23 - 4 * channel))
            photo[..., channel] = 70 + 60 * channel / 2 + 90 * blob + 35 * waves
        photo[height // 5 : height // 3, width // 4 : width // 2] += (60, -40, 20)
        photo += random.normal(0, 12, photo.shape)
        made.append(np.clip(np.rint(photo), 0, 255).astype(np.uint8))
    return made


def save_photos(folder: Path) -> list[Path]:
    """Write the three photos as PNG files, which lose nothing, and return their paths."""
    paths = [folder / f"photo{n}.png" for n in range(len(SIZES))]
    for path, photo in zip(paths, photos(), strict=True):
        assert cv2.imwrite(str(path), photo[..., ::-1])
    return paths


def difference(ours: NDArray[np.generic], theirs: NDArray[np.generic]) -> float:
    """Return mean |ours - theirs| / std(theirs); a leading axis of one image is ignored.

    Raises:
        AssertionError: the shapes differ.
    """
    ours, theirs = (np.asarray(one, np.float64) for one in (ours, theirs))
    ours, theirs = (one[0] if one.ndim == 4 and len(one) == 1 else one for one in (ours, theirs))
    assert ours.shape == theirs.shape, f"shapes {ours.shape} and {theirs.shape}"
    return float(np.abs(ours - theirs).mean() / theirs.std())


def prepared(preprocess: Preprocess, photo: NDArray[np.uint8], shape: Sequence[int | str]) -> NDArray[np.generic]:
    """Return what a float32 input of a shape, [N,C,H,W] or [N,H,W,C], is fed of a photo."""
    return preprocess_image(photo, preprocess, InputSpec.from_shape("image", np.float32, tuple(shape)))[0]


def save_classifier(
    path: Path,
    shape: Sequence[int | str],
    classes: int = 5,
    dtype: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a small classifier of pictures whose input has a shape, [N,C,H,W] or [N,H,W,C], and return its path."""
    last = shape[1] not in (1, 2, 3, 4, 6, 13)
    channels = shape[3] if last else shape[1]
    random = np.random.default_rng(7)
    weights = {
        "w": random.normal(0, 0.3, (8, int(channels), 3, 3)),
        "f": random.normal(0, 0.3, (8, classes)),
    }
    nodes = [helper.make_node("Cast", ["image"], ["as_float"], to=TensorProto.FLOAT)]
    picture = "as_float"
    if last:
        nodes.append(helper.make_node("Transpose", [picture], ["channels_first"], perm=[0, 3, 1, 2]))
        picture = "channels_first"
    nodes += [
        helper.make_node("Conv", [picture, "w"], ["conv"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "f"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", dtype, list(shape))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], classes])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def worst_difference(model: Path, theirs: Sequence[NDArray[np.generic]], **options: object) -> float:
    """Return the largest difference of what a model is fed of the three photos from a producer's tensors of them.

    The whole way is taken: an Explainer finds the preprocessing by itself, from the model's file or what lies beside
    it, unless `options` state it.
    """
    folder = model.parent / "photos"
    folder.mkdir(exist_ok=True)
    explainer = Explainer(model, **options)
    paths = save_photos(folder)
    return max(difference(explainer.prepare(path).item, tensor) for path, tensor in zip(paths, theirs, strict=True))
