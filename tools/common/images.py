"""These images are what the programs compare gradients on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tools.common.folders import PHOTOS


def pixels_nhwc(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Images float32 [count,size,size,3], RGB, 0 to 255: the sample photos first, then smooth noise."""
    random = np.random.default_rng(seed)
    photos = [_photo(path, size) for path in sorted(PHOTOS.iterdir())][: count // 2]
    noise = [_smooth_noise(random, size) for _ in range(count - len(photos))]
    return np.stack([*photos, *noise]).astype(np.float32)


def _photo(path: Path, size: int) -> np.ndarray:
    image_bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(image_bgr, (size, size), interpolation=cv2.INTER_AREA)[:, :, ::-1]


def _smooth_noise(random: np.random.Generator, size: int) -> np.ndarray:
    coarse = random.uniform(0, 255, (int(random.integers(3, 25)),) * 2 + (3,)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255)
