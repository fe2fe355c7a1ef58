"""examples/web: the hand-written page in a real Chromium."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from helpers import web
from onnx_xcam import instrument_file

FED = """
[window.last.image, window.last.map].map((array) => {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
})
"""
"""What the page fed, and the map it got, as base64."""
SAMPLE = web.ROOT / "sample_models/efficientnet_lite0.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, its model, and what npm would install."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "index.html").write_bytes((web.ROOT / "examples/web/index.html").read_bytes())
    (folder / "node_modules/onnxruntime-web").mkdir(parents=True)
    (folder / "node_modules/onnxruntime-web/dist").symlink_to(web.vendored(), target_is_directory=True)
    instrument_file(SAMPLE, folder / "explained.onnx", emit=("map", "heatmap"), class_input="required")
    return folder


def test_the_page(folder):
    """Three photos and a chosen class: the map is that of ONNX Runtime in Python for the pixels that were fed."""
    session = ort.InferenceSession(folder / "explained.onnx", providers=["CPUExecutionProvider"])
    with web.chromium() as browser, web.served(folder) as address, web.Tab(browser, address) as tab:
        for name, best in (("cat.png", 282), ("coffee.png", 967), ("rocket.jpg", 657)):
            tab.page.goto(address)
            tab.wait("document.getElementById('text').textContent", "Choose a photo.")
            tab.page.set_input_files("#file", web.PHOTOS / name)
            for asked, shown in ((-1, best), (3, 3)):
                if asked >= 0:
                    tab.page.fill("#class", str(asked))
                    tab.page.press("#class", "Enter")
                tab.wait("window.last?.classId", shown)
                image, found = (np.frombuffer(base64.b64decode(text), np.float32) for text in tab.page.evaluate(FED))
                image = image.reshape(1, 3, 224, 224)
                feed = {"image": image, "xcam_class": np.array([[asked]])}
                wanted = session.run(["xcam_map"], feed)[0][0, 0]
                assert web.furthest(found.reshape(7, 7), wanted) <= 1e-3
                assert tab.page.inner_text("#text").startswith(f"class {shown}, score ")
        asked = [url for url in tab.asked if not url.endswith("favicon.ico")]
        runtime = "node_modules/onnxruntime-web/dist/"
        files = {"ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"}
        assert web.names(asked, address) == {"", "explained.onnx", *(runtime + name for name in files)}
        assert [text for text in tab.complaints if "favicon" not in text and "404" not in text] == []


def test_it_is_small():
    assert len((web.ROOT / "examples/web/index.html").read_text(encoding="utf-8").splitlines()) <= 65
