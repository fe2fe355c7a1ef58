"""Make docs/images/objects.png: the best objects that the sample detector finds on its page, by `explain` itself.

python -m tools.release.objects_picture
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tools.common import command_line
from tools.common.folders import ROOT

PICTURE = ROOT / "docs/images/objects.png"
MODEL, PHOTO = "sample_models/picodet_layout.onnx", "sample_models/pictures/page.png"
COLOURS, WIDTH = 256, 1228


def main() -> int:
    """Explain the page, and keep the picture of all objects beside the page, smaller and in few colours."""
    command_line.parser("tools.release.objects_picture", __doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "onnx_xcam", "explain", MODEL, PHOTO, "--beside", "-o", folder]
        subprocess.run(command, cwd=ROOT, check=True)
        with Image.open(Path(folder) / f"{Path(PHOTO).stem}.objects.png") as made:
            small = made.convert("RGB").resize(
                (WIDTH, round(made.height * WIDTH / made.width)), Image.Resampling.LANCZOS
            )
        small.quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
