"""The stride of a level follows from the sides of the picture and of its grid."""

import pytest

from onnx_xcam.surgery.targets.detection.levels import _stride


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("sides", [(640, 640), (608, 800), (416, 416), (300, 500), (1333, 800)])
def test_each_halving_of_the_picture_rounds_up(sides, stride):
    """608 x 800 at stride 64 has 10 x 13 cells, which 61 fits as well."""
    cells = tuple(-(-side // stride) for side in sides)
    assert _stride(sides, cells) == stride


@pytest.mark.parametrize(
    ("sides", "cells", "expected"),
    [
        ((96, 96), (8, 8), 12),  # no power of two
        ((300, 300), (37, 37), 8),  # rounded down
        ((640, 640), (80, 40), None),  # two strides
        ((320, 320), (1, 1), None),  # many
        ((320, 320), (320, 320), None),  # none
        ((320, 320), (640, 640), None),
    ],
)
def test_other_strides(sides, cells, expected):
    assert _stride(sides, cells) == expected
