"""The models of Keras that Keras and tf2onnx export with random weights, and what Keras itself makes of a photo."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from helpers.producers import Found, difference, installed, photos
from onnx_xcam import Explainer

EXPORTERS = ("keras", "tf2onnx")
FAMILIES: Mapping[str, tuple[str, Mapping[str, bool], bool]] = {
    "MobileNetV3Small": ("MobileNetV3Small", {"include_preprocessing": True}, True),
    "MobileNetV3Small without": ("MobileNetV3Small", {"include_preprocessing": False}, False),
    "EfficientNetB0": ("EfficientNetB0", {}, True),
    "EfficientNetV2S": ("EfficientNetV2S", {"include_preprocessing": True}, True),
    "ConvNeXtTiny": ("ConvNeXtTiny", {"include_preprocessing": True}, True),
    "MobileNetV2": ("MobileNetV2", {}, False),
}
"""A name in keras.applications, its options, and whether it takes 0 to 255, by its documentation."""

HEIGHT, WIDTH = 64, 96
"""The size of the input: so oblong that a photo of this size is not cropped where nothing states how to resize."""

_PROGRAM = """
import json, sys
import numpy as np, tensorflow, tf2onnx, keras

folder, exporter, families = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
photo = np.load(f"{folder}/photo.npy")
scores = {}
for case, (name, options, _) in families.items():
    model = getattr(keras.applications, name)(weights=None, input_shape=photo.shape, classes=5, **options)
    scores[case] = np.asarray(model(photo[None].astype(np.float32)))[0]  # what was never called is not exported
    path = f"{folder}/{case}.onnx"
    if exporter == "keras":
        model.export(path, format="onnx", verbose=False)
    else:
        signature = (tensorflow.TensorSpec((None, *photo.shape), tensorflow.float32, name="image"),)
        tf2onnx.convert.from_keras(model, signature, opset=17, output_path=path)
np.savez(f"{folder}/scores.npz", **scores)
"""
"""The program that exports the models. It has a process of its own: TensorFlow may crash in one with PyTorch."""


@functools.cache
def exported(exporter: str) -> tuple[Mapping[str, Path], Mapping[str, NDArray[Any]]]:
    """Return the files of an exporter's models, and the scores that Keras computes of `small_photo()`, by case.

    A model with an operator that tf2onnx cannot export is left out: it has no erfc, which the GELU of ConvNeXt needs,
    and both exporters write ConvNeXt's convolutions, which Keras has compiled, as calls of functions that ONNX lacks.
    """
    installed("keras", "tensorflow", "tf2onnx")
    kept = tempfile.TemporaryDirectory()
    _kept.append(kept)
    folder = Path(kept.name)
    np.save(folder / "photo.npy", small_photo())
    command = [sys.executable, "-c", _PROGRAM, str(folder), exporter, json.dumps(FAMILIES)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    with np.load(folder / "scores.npz") as scores:
        made = dict(scores)
    files = {case: folder / f"{case}.onnx" for case in FAMILIES}
    return {case: path for case, path in files.items() if not _has_erfc(path)}, made


_kept: list[tempfile.TemporaryDirectory[str]] = []
"""The folders of the models, which are removed when the program ends."""


def _has_erfc(path: Path) -> bool:
    """Tell whether a model has the operator that tf2onnx makes up."""
    return any(node.op_type == "Erfc" for node in onnx.load(path).graph.node)


def small_photo() -> NDArray[np.uint8]:
    """Return a part of the first photo, [64,96,3]."""
    return photos()[0][100 : 100 + HEIGHT, 80 : 80 + WIDTH].copy()


def exports_found() -> Found:
    """Return the difference of what each exported model with its own normalisation is fed, from the pixels it takes."""
    found: dict[str, float | str] = {}
    for exporter in EXPORTERS:
        for case, path in exported(exporter)[0].items():
            if FAMILIES[case][2]:
                ours = Explainer(path).prepare(small_photo()).item
                found[f"{exporter}: {case}"] = difference(ours, small_photo().astype(np.float32))
    return found
