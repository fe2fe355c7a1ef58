"""Take docs/images/report.png: the page of `explain --html` in headless Chromium. Needs playwright and Chromium.

python -m tools.release.report_picture
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tools.common import command_line
from tools.common.folders import ROOT

PICTURE = ROOT / "docs/images/report.png"
MODEL, PHOTOS = "sample_models/efficientnet_lite0.onnx", "sample_models/photos"
LAYERS = ("--layer", "/_swish_1/Clip_output_0", "--layer", "/_blocks.10/Add_output_0")
OPTIONS = ("--top", "4", *LAYERS, "--method", "xgrad-cam", "--method", "grad-cam")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
COLOURS = 256


def main() -> int:
    """Explain the sample photos, open the page, point at a value, take the picture."""
    command_line.parser("tools.release.report_picture", __doc__).parse_args()
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        print("Chromium is not installed")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "onnx_xcam", "explain", MODEL, PHOTOS, *OPTIONS]
        subprocess.run([*command, "--no-pictures", "-o", folder, "--html", str(page)], cwd=ROOT, check=True)
        shot = Path(folder) / "shot.png"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            tab.goto(page.as_uri())
            tab.wait_for_selector("#viewer:not([hidden])")
            tab.focus("#probe")
            tab.keyboard.press("Home")
            tab.screenshot(path=shot)
            browser.close()
        Image.open(shot).convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
