"""Imputing: the system is solved, and it is the published one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from onnx_xcam.images import impute as module
from onnx_xcam.images.impute import impute


def picture(height=23, width=18, channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width, channels)).astype(np.float32)


def solved_directly(image, missing):
    """The definition, literally: a dense system, one equation per missing pixel."""
    height, width, _ = image.shape
    index = {tuple(p): i for i, p in enumerate(np.argwhere(missing))}
    left, right = np.zeros((len(index), len(index))), np.zeros((len(index), image.shape[2]))
    for (y, x), i in index.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                q = (y + dy, x + dx)
                if (dy, dx) == (0, 0) or not (0 <= q[0] < height and 0 <= q[1] < width):
                    continue
                weight = 1 / 6 if dy == 0 or dx == 0 else 1 / 12
                left[i, i] += weight
                if q in index:
                    left[i, index[q]] -= weight
                else:
                    right[i] += weight * image[q]
    result = image.astype(np.float64)
    if index:
        result[missing] = np.linalg.solve(left, right)
    return result


MASKS = {
    "scattered": np.random.default_rng(1).random((23, 18)) < 0.5,
    "most": np.random.default_rng(2).random((23, 18)) < 0.97,
    "a block at a corner": np.add.outer(np.arange(23) < 15, np.arange(18) < 12) == 2,
    "all but a pixel": np.arange(23 * 18).reshape(23, 18) != 100,
    "a pixel": np.arange(23 * 18).reshape(23, 18) == 0,
    "nothing": np.zeros((23, 18), bool),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MASKS)
def test_it_solves_the_published_system(name, channels):
    image, missing = picture(channels=channels), MASKS[name]
    kept = image.copy()
    expected = solved_directly(image, missing)
    assert_allclose(impute(image, missing, tolerance=1e-6), expected, atol=2e-5)
    assert_allclose(impute(image, missing), expected, atol=2e-3)
    assert (image == kept).all()


def test_where_all_is_missing_it_is_zero():
    assert (impute(picture(), np.ones((23, 18), bool)) == 0).all()


def test_known_pixels_stay_and_holes_do_not_matter():
    image, missing = picture(), MASKS["scattered"]
    filled = impute(image, missing)
    assert (filled[~missing] == image[~missing]).all()
    other = np.where(missing[..., None], np.float32(1e6), image)
    assert (impute(other, missing) == filled).all()


def test_the_cycle_is_symmetric():
    """Else conjugate gradients need not converge: restricting is the transpose of prolonging, on odd sizes too."""
    for height, width in ((8, 6), (9, 7), (5, 5)):
        fine = picture(height, width)
        coarse = picture((height + 1) // 2, (width + 1) // 2, seed=3)
        left, right = (module._restricted(fine) * coarse).sum(), (fine * module._prolonged(coarse, fine.shape)).sum()
        assert left == pytest.approx(right, rel=1e-5)


def test_few_steps_are_enough(monkeypatch):
    """Some ten cycles, however large the hole is."""
    cycles = []
    plain = module._cycle
    monkeypatch.setattr(module, "_cycle", lambda levels, r, depth=0: cycles.append(depth) or plain(levels, r, depth))
    image = picture(224, 224)
    impute(image, np.add.outer(np.arange(224) % 223, np.arange(224) % 223) > 0)
    assert cycles.count(0) <= 15
