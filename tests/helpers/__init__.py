"""What several test files share: models, photos, other programs. `ROOT` is the repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
