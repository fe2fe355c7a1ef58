"""These folders of the repository are read and written by the programs."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_MODELS = ROOT / "sample_models"
PHOTOS = SAMPLE_MODELS / "photos"
"""Photos for classifiers."""
PICTURES = SAMPLE_MODELS / "pictures"
"""Pictures of several objects, for detectors."""
