"""tools/evaluation/placements.py: every placement has both properties, and one of them is the package's method."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.local_xgrad import local_xgrad_cam
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from tools.evaluation.placements import PLACEMENTS, placed


def arrays(length):
    """Return A and G of five channels, the latter with as many values over space."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(5, 12)), np.broadcast_to(rng.normal(size=(5, length)), (5, 12))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_shares_are_kept_and_a_constant_gradient_gives_xgrad_cam(name):
    a, g = arrays(12)
    for part in (a, np.maximum(a, 0), np.minimum(a, 0)):
        for k in range(5):
            alone = placed(part[k : k + 1], g[k : k + 1], name).sum()
            np.testing.assert_allclose(alone, (part[k] * g[k]).sum(), atol=1e-12)
    a, g = arrays(1)
    np.testing.assert_allclose(placed(a, g, name), (a * g).sum(0), atol=1e-12)


def test_the_placement_that_was_chosen_is_the_method():
    a, g = arrays(12)
    method = map_of(NumpyArrays(), local_xgrad_cam(NumpyArrays(), a[None], g[None, None], non_negative=False))[0, 0]
    np.testing.assert_allclose(placed(a, g, "net by envelope / root"), method, rtol=1e-9, atol=1e-12)
    assert np.abs(placed(a, g, "net by root / root") - method).max() > 1e-2
