"""Folders of this repository that the programs read and write."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_MODELS = ROOT / "sample_models"
PHOTOS = SAMPLE_MODELS / "photos"
