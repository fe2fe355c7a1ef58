"""torchvision's presets against the tensors that `weights.transforms()` makes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.producers import photos, prepared
from helpers.producers_named import preset, torchvision_weights
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.named import named

QUARTERS = {  # what torchvision 0.29.1 makes of the first photo: the mean of channel 0 in each quarter of the tensor
    "resnet50.IMAGENET1K_V1": (-0.2802, -0.8192, -0.0722, -0.6819),
    "resnet50.IMAGENET1K_V2": (-0.378, -0.8321, -0.1765, -0.7153),
    "inception_v3.IMAGENET1K_V1": (-0.279, -0.8142, -0.0742, -0.6764),
    "vgg16.IMAGENET1K_FEATURES": (-15.6879, -47.162, -3.5386, -39.1454),
    "efficientnet_b7.IMAGENET1K_V1": (-0.4082, -0.8372, -0.2112, -0.7259),
}


def test_as_many_weights_as_are_published_have_presets():
    """115 classifiers, without the quantised ones; each preset is compared for the table of docs/producers.md."""
    weights = torchvision_weights("ImageClassification")
    assert sum("quantized" not in name for name, _ in weights) == 115
    for name, weight in weights:
        assert preset(f"torchvision:{name}.{weight.name}").size


@pytest.mark.parametrize("kind", ["SemanticSegmentation", "ObjectDetection", "OpticalFlow"])
def test_weights_for_whole_pictures_have_one_preset(kind):
    weights = torchvision_weights(kind)
    assert len(weights) > 5
    assert len({preset(f"torchvision:{name}.{weight.name}") for name, weight in weights}) == 1


def test_a_picture_that_is_stretched_is_said():
    (remark,) = named("torchvision:fcn_resnet50").remarks
    assert "torchvision scales the shorter side to 520 and cuts nothing off; the picture is stretched" in remark


@pytest.mark.parametrize("name", QUARTERS)
def test_a_preset_gives_the_numbers_of_torchvision(name):
    ours = Preprocess(**named(f"torchvision:{name}").settings)
    tensor = prepared(ours, photos()[0], (1, 3, *ours.size))
    height, width = (side // 2 for side in ours.size)
    parts = [tensor[0, rows, columns] for rows in np.s_[:height, height:] for columns in np.s_[:width, width:]]
    assert [part.mean(dtype=np.float64) for part in parts] == pytest.approx(QUARTERS[name], abs=0.002, rel=2e-4)
