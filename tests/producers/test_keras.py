"""Keras' presets against the tensors of `keras.utils.load_img` and each application's `preprocess_input`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from helpers.producers import LARGEST_DIFFERENCE, difference, installed, photos, prepared, save_photos
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.named import named, table

MEANS = {  # what Keras 3.15.1 makes of the first photo: the mean of each channel, in the order of the model's input
    "ResNet50": (39.7323, -6.2416, -37.8304),
    "MobileNetV2": (-0.3267, -0.133, 0.1268),
    "DenseNet121": (-0.6478, -0.1005, 0.6996),
    "EfficientNetB0": (85.8496, 110.5374, 143.6713),
}
THEIRS = """
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


def preset(name):
    return Preprocess(**named(f"keras:{name}").settings)


def test_every_application_gives_the_tensors_of_keras(tmp_path):
    installed("keras", "torch")
    save_photos(tmp_path)
    sizes = {name: preset(name).size for name in table("keras").weights if preset(name).size}
    environment = os.environ | {"KERAS_BACKEND": "torch"}
    command = [sys.executable, "-c", THEIRS, str(tmp_path), json.dumps(sizes)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    theirs = np.load(tmp_path / "theirs.npz")
    assert set(theirs["names"]) == set(table("keras").weights)
    compared = [key for key in theirs.files if key != "names"]
    assert len(compared) > 3 * 14  # families of applications, some in several sizes
    for key in compared:
        name, number = key.split()
        tensor = theirs[key]
        ours = prepared(preset(name), photos()[int(number)], (1, *tensor.shape))
        assert difference(ours, tensor) <= LARGEST_DIFFERENCE, key


@pytest.mark.parametrize("name", MEANS)
def test_a_preset_gives_the_numbers_of_keras(name):
    tensor = prepared(preset(name), photos()[0], (1, 224, 224, 3))
    assert tensor.mean(axis=(0, 1), dtype=np.float64) == pytest.approx(MEANS[name], rel=1e-4, abs=1e-4)
