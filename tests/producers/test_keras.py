"""Keras' presets give the numbers of `keras.utils.load_img` and each application's `preprocess_input`.

They are compared with its tensors for the table of docs/producers.md.
"""

from __future__ import annotations

import numpy as np
import pytest

from helpers.producers import photos, prepared
from helpers.producers_named import preset

MEANS = {  # what Keras 3.15.1 makes of the first photo: the mean of each channel, in the order of the model's input
    "ResNet50": (39.7323, -6.2416, -37.8304),
    "MobileNetV2": (-0.3267, -0.133, 0.1268),
    "DenseNet121": (-0.6478, -0.1005, 0.6996),
    "EfficientNetB0": (85.8496, 110.5374, 143.6713),
}


@pytest.mark.parametrize("name", MEANS)
def test_a_preset_gives_the_numbers_of_keras(name):
    tensor = prepared(preset(f"keras:{name}"), photos()[0], (1, 224, 224, 3))
    assert tensor.mean(axis=(0, 1), dtype=np.float64) == pytest.approx(MEANS[name], rel=1e-4, abs=1e-4)
