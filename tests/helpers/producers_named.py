"""The cases of timm, torchvision and Keras: what their files and names of weights give, against their own tensors."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers import producers
from helpers.producers import Found, difference, installed, library, prepared, save_photos
from onnx_xcam import XcamError
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects import timm
from onnx_xcam.producers.named import named, table

photos = functools.cache(producers.photos)


def preset(name: str) -> Preprocess:
    """Return the preprocessing of published weights."""
    return Preprocess(**named(name).settings)


# --- timm ---


def timm_kinds(*more: str) -> Mapping[str, Mapping[str, Any]]:
    """Return a published config for each combination of settings that differs in what a picture meets, by its name."""
    library_itself = library("timm")
    found: dict[object, tuple[str, Mapping[str, Any]]] = {}
    for name in library_itself.list_pretrained():
        config = library_itself.get_pretrained_cfg(name)
        keys = ("interpolation", "crop_mode", "crop_pct", "mean", "std", "input_size", *more)
        found.setdefault(tuple(getattr(config, key) for key in keys), (name, config.to_dict()))
    return dict(found.values())


def timm_settings(config: Mapping[str, Any], size: tuple[int, int] | None = None) -> Preprocess:
    """Return what a `config.json` with a config states, for a model of a size."""
    data = json.loads(json.dumps({"architecture": config["architecture"], "pretrained_cfg": config}))
    stated = timm.read(DescriptionFile(Path("config.json"), "the file", "", data))
    return Preprocess(**stated.at(size or (None, None)).settings)


def timm_difference(config: Mapping[str, Any], ours: Iterable[Preprocess], *, use_test_size: bool = False) -> float:
    """Return the largest difference of preprocessings from the tensors of timm's own transform of a config."""
    data = library("timm.data")
    resolved = data.resolve_data_config({}, pretrained_cfg=config, use_test_size=use_test_size)
    transform = data.create_transform(**resolved, is_training=False)
    theirs = [transform(Image.fromarray(photo)).numpy() for photo in photos()]
    return max(
        difference(prepared(one, photo, (1, *resolved["input_size"])), tensor)
        for one in set(ours)
        for photo, tensor in zip(photos(), theirs, strict=True)
    )


def timm_found() -> Found:
    """Return the difference for each kind of published config, of its file and of the name of its weights."""
    return {
        name: timm_difference(config, [timm_settings(config), preset(f"timm:{name}")])
        for name, config in timm_kinds().items()
    }


# --- torchvision ---


def torchvision_weights(*kinds: str) -> list[tuple[str, Any]]:
    """Return all weights of torchvision with transforms of some kinds, with the name of their architecture."""
    models = library("torchvision.models")
    weights = [(name, one) for name in models.list_models() for one in models.get_model_weights(name)]
    return [(name, one) for name, one in weights if type(one.transforms()).__name__ in kinds]


def torchvision_found(*kinds: str) -> Found:
    """Return the difference, or the refusal, for all weights with transforms of some kinds.

    Weights with the same transform and the same preset have the same difference, which is measured once. A transform
    of classifiers makes a square; the others keep the photo's proportions, and the model has the size that they make.
    """
    known: dict[tuple[str, Preprocess], float] = {}
    found: dict[str, float | str] = {}
    for architecture, weight in torchvision_weights(*kinds):
        transform = weight.transforms()
        name = f"{architecture}.{weight.name}"
        try:
            key = (repr(transform), preset(f"torchvision:{name}"))
        except XcamError as error:
            found[name] = str(error)
            continue
        if key not in known:
            known[key] = _torchvision_difference(transform, key[1])
        found[name] = known[key]
    return found


def _torchvision_difference(transform: Callable[..., Any], ours: Preprocess) -> float:
    """Return the difference of a preprocessing from a transform of torchvision."""
    kind = type(transform).__name__
    worst = 0.0
    for photo in photos():
        made = transform(*[Image.fromarray(photo)] * (2 if kind == "OpticalFlow" else 1))
        theirs = (made[0] if kind == "OpticalFlow" else made).numpy()
        if kind == "ImageClassification":
            assert theirs.shape[1:] == ours.size
        one = ours if kind == "ImageClassification" else ours.replace(size=None)
        worst = max(worst, difference(prepared(one, photo, (1, *theirs.shape)), theirs))
    return worst


# --- Keras ---

_KERAS = """
import inspect, json, sys
import keras, numpy as np

folder, sizes = sys.argv[1], json.loads(sys.argv[2])
tensors, names, seen = {}, [], set()
for name, model in inspect.getmembers(keras.applications, inspect.isfunction):
    names.append(name)
    size = tuple(sizes.get(name, (224, 224)))
    preprocess_input = sys.modules[model.__module__].preprocess_input
    if (preprocess_input.__module__, size) in seen:
        continue
    seen.add((preprocess_input.__module__, size))
    for number in range(3):
        picture = keras.utils.load_img(f"{folder}/photo{number}.png", target_size=size)
        batch = keras.utils.img_to_array(picture)[None]
        tensors[f"{name} {number}"] = np.asarray(preprocess_input(batch))[0]
np.savez(f"{folder}/theirs.npz", names=names, **tensors)
"""
"""The program that makes Keras' tensors. It has a process of its own: TensorFlow may crash in one with PyTorch."""


def keras_found() -> Found:
    """Return the difference for each family of `keras.applications`, in each size that its models take."""
    installed("keras", "torch")
    sizes = {name: preset(f"keras:{name}").size for name in table("keras").weights if preset(f"keras:{name}").size}
    with TemporaryDirectory() as folder:
        save_photos(Path(folder))
        command = [sys.executable, "-c", _KERAS, folder, json.dumps(sizes)]
        subprocess.run(command, env=os.environ | {"KERAS_BACKEND": "torch"}, check=True, capture_output=True)
        with np.load(Path(folder) / "theirs.npz") as made:
            theirs: dict[str, NDArray[Any]] = dict(made)
    assert set(theirs.pop("names").tolist()) == set(table("keras").weights)
    found: dict[str, float | str] = {}
    for key, tensor in theirs.items():
        name, number = key.split()
        ours = prepared(preset(f"keras:{name}"), photos()[int(number)], (1, *tensor.shape))
        found[name] = max(float(found.get(name, 0.0)), difference(ours, tensor))
    return found
