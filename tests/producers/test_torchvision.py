"""torchvision's presets against the tensors that `weights.transforms()` makes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.producers import LARGEST_DIFFERENCE, difference, library, photos, prepared
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.named import named

QUARTERS = {  # what torchvision 0.29.1 makes of the first photo: the mean of channel 0 in each quarter of the tensor
    "resnet50.IMAGENET1K_V1": (-0.2802, -0.8192, -0.0722, -0.6819),
    "resnet50.IMAGENET1K_V2": (-0.378, -0.8321, -0.1765, -0.7153),
    "inception_v3.IMAGENET1K_V1": (-0.279, -0.8142, -0.0742, -0.6764),
    "vgg16.IMAGENET1K_FEATURES": (-15.6879, -47.162, -3.5386, -39.1454),
    "efficientnet_b7.IMAGENET1K_V1": (-0.4082, -0.8372, -0.2112, -0.7259),
}


def preset(architecture, weight):
    return Preprocess(**named(f"torchvision:{architecture}.{weight.name}").settings)


def weights_of(kind):
    """All weights of torchvision with a transform of a kind, with the name of their architecture."""
    models = library("torchvision.models")
    weights = [(name, one) for name in models.list_models() for one in models.get_model_weights(name)]
    return [(name, one) for name, one in weights if type(one.transforms()).__name__ == kind]


def image(photo):
    return library("PIL.Image").fromarray(photo)


def first_of_each_kind(weights):
    """One of the weights for each transform that differs from the others."""
    return list({repr(one.transforms()): (name, one) for name, one in reversed(weights)}.values())


def test_classifiers_give_the_tensors_of_torchvision():
    """Every weight has the preset of one that is compared; 115 of them are not quantised."""
    weights = weights_of("ImageClassification")
    assert sum("quantized" not in name for name, _ in weights) == 115
    compared = {}
    for name, weight in first_of_each_kind(weights):
        ours, transform = preset(name, weight), weight.transforms()
        shape = (1, 3, *ours.size)
        found = [difference(prepared(ours, photo, shape), transform(image(photo)).numpy()) for photo in photos()]
        assert max(found) <= LARGEST_DIFFERENCE, (weight, found)
        compared[repr(transform)] = ours
    assert all(compared[repr(weight.transforms())] == preset(name, weight) for name, weight in weights)


@pytest.mark.parametrize("kind", ["SemanticSegmentation", "ObjectDetection", "OpticalFlow"])
def test_whole_pictures_in_a_model_of_their_size_give_the_tensors_of_torchvision(kind):
    weights = weights_of(kind)
    assert len(weights) > 5
    for name, weight in first_of_each_kind(weights):
        ours = preset(name, weight).replace(size=None)
        for photo in photos():
            theirs = weight.transforms()(*[image(photo)] * (2 if kind == "OpticalFlow" else 1))
            theirs = theirs[0] if kind == "OpticalFlow" else theirs
            assert difference(prepared(ours, photo, (1, *theirs.shape)), theirs.numpy()) <= LARGEST_DIFFERENCE
    assert len({preset(name, weight) for name, weight in weights}) == 1


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
