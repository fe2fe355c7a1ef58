"""Fixtures that several test modules share."""

from __future__ import annotations

import numpy as np
import pytest
from models import images


@pytest.fixture(scope="session")
def batch() -> np.ndarray:
    """Two images, float32 `[2,3,12,12]`."""
    return images(2)
