"""Node and Chromium for tests: the real ones, found or missed loudly, and a plain static server."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from helpers import ROOT
from onnx_xcam.demo.browser_runtime import FILES, VENDORED

WEB = ROOT / "onnx_xcam/demo/web"
PHOTOS = ROOT / "sample_models/photos"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 600.0
"""Seconds after which a page is taken to hang; however busy the machine is, none takes so long."""


def missing(what: str) -> NoReturn:
    """Skip, saying why; where XCAM_REQUIRE_WEB is set, as in CI, fail: there it must not be missing."""
    if os.environ.get("XCAM_REQUIRE_WEB"):
        pytest.fail(f"XCAM_REQUIRE_WEB is set, but {what}")
    pytest.skip(what)


def node() -> str:
    """The path of Node."""
    return shutil.which("node") or missing("Node.js (node) is not installed")


def vendored() -> Path:
    """The folder with ONNX Runtime for browsers."""
    if not all((VENDORED / name).is_file() for name in FILES):
        missing("ONNX Runtime for browsers is not there; run python -m tools.release.vendor_web")
    return VENDORED


def run_node(script: str, *arguments: str | Path, modules: Path = WEB) -> str:
    """What a script prints. It is an ES module; `#/name` in it means the file `name` in `modules`."""
    script = script.replace("#/", modules.as_uri() + "/")
    command = [node(), "--input-type=module", "--eval", script, "--", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a plain static server of a folder: what `python -m http.server` is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None) or missing("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """A page in the browser that remembers what it asked for and what it complained of."""

    def __init__(self, browser: Any, address: str, **context: Any) -> None:
        self.address = address
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))

    def __enter__(self) -> Tab:
        self.page.goto(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def wait(self, expression: str, wanted: Any = True) -> None:
        """Wait until an expression has a value. (Playwright's own way is against the page's security policy.)"""
        end = time.monotonic() + PATIENCE
        while (found := self.page.evaluate(expression)) != wanted:
            assert time.monotonic() < end, f"{expression} is {found!r}, not {wanted!r}; {self.complaints}"
            time.sleep(0.02)

    @property
    def message(self) -> str:
        """What the page says."""
        return str(self.page.inner_text("#message"))

    def ready(self) -> None:
        """Wait until the page waits for the user."""
        self.wait("document.body.dataset.state", "ready")

    def explain(self, photo: Path) -> dict[str, Any]:
        """Choose a photo; what the page then shows."""
        self.page.set_input_files("#file", photo)
        self.wait(f"document.body.dataset.state == 'error' || window.xcam.last?.name == {json.dumps(photo.name)}")
        return self.last()

    def last(self) -> dict[str, Any]:
        """What the page shows, the map as float32 [h,w]."""
        self.ready()
        found: dict[str, Any] = self.page.evaluate(
            "({...window.xcam.last, map: {...window.xcam.last.map, data: [...window.xcam.last.map.data]}})"
        )
        found["map"] = as_map(found["map"])
        return found


def as_map(stated: Mapping[str, Any]) -> np.ndarray:
    """float32 [h,w] of {data, height, width}."""
    return np.array(stated["data"], np.float32).reshape(stated["height"], stated["width"])


def furthest(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of two maps, relative to the largest value of the second."""
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / wanted.max())


def names(requests: Sequence[str], address: str) -> set[str]:
    """The files that were asked for, all of them from there."""
    assert all(url.startswith(address) for url in requests), requests
    return {url.removeprefix(address) for url in requests}
