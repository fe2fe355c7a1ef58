"""The page of `onnx-xcam demo` in a real Chromium, from a plain static server, against the package in Python."""

from __future__ import annotations

import base64
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from helpers import models, tiny_models, web
from onnx_xcam import Explainer
from onnx_xcam.demo import write_page
from onnx_xcam.demo.browser_runtime import FILES, LICENCE
from onnx_xcam.demo.page import PAGE_FILES
from onnx_xcam.images.read import read_image

SAMPLE = web.ROOT / "sample_models/efficientnet_lite0.onnx"
PHOTOS = sorted(web.PHOTOS.iterdir())
CAT = web.PHOTOS / "cat.png"
CLOSE = 1e-3
"""How far a map may be from the package's, of its largest value. Measured: about 1e-6 where the pixels are the same."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    web.vendored()
    with web.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the sample model."""
    web.vendored()
    return write_page(SAMPLE, tmp_path_factory.mktemp("sample") / "page").folder


@pytest.fixture(scope="module")
def sample_tab(browser: Any, folder: Path) -> Iterator[web.Tab]:
    with web.served(folder) as address, web.Tab(browser, address) as tab:
        assert tab.page.evaluate("window.xcam.ready") is True
        yield tab
        assert tab.complaints == []


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(SAMPLE, providers="cpu")


def compare(shown: dict[str, Any], explainer: Explainer, photo: Path, class_id: int = -1) -> None:
    """The page shows what the package says."""
    wanted = explainer.explain(photo, classes=[class_id])
    assert shown["classId"] == wanted.classes[0, 0]
    assert shown["score"] == pytest.approx(float(wanted.scores[0, 0]), rel=CLOSE)
    assert wanted.probabilities is not None
    assert shown["probability"] == pytest.approx(float(wanted.probabilities[0, 0]), rel=CLOSE)
    assert shown["status"] == wanted.status[0, 0]
    assert web.furthest(shown["map"], wanted.maps[0, 0]) <= CLOSE


# --- the sample model ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.name)
def test_photos(photo, sample_tab, explainer):
    shown = sample_tab.explain(photo)
    compare(shown, explainer, photo)
    assert shown["label"] == explainer.explain(photo).labels[0][0]
    assert shown["label"] in sample_tab.page.inner_text("#caption")
    assert sample_tab.page.title() == "What efficientnet_lite0 sees"


def test_the_top_classes(sample_tab, explainer):
    """Five buttons, best first, with their probabilities; each shows its own map."""
    sample_tab.explain(CAT)
    wanted = explainer.explain(CAT, top=5)
    rows = [text.split("\n") for text in sample_tab.page.locator("#classes label").all_inner_texts()]
    assert [row[0] for row in rows] == wanted.labels[0]
    for row, probability in zip(rows, wanted.probabilities[0], strict=True):
        assert float(row[1].removesuffix(" %")) == pytest.approx(100 * probability, abs=0.5)
    for k in (3, 1):
        sample_tab.page.locator("#classes label").nth(k).click()
        compare(sample_tab.last(), explainer, CAT, -1 - k)


@pytest.mark.parametrize(("typed", "class_id"), [("siamese", 284), ("7", 7), ("catamaran", 484), ("cat", 282)])
def test_any_class_by_search(typed, class_id, sample_tab, explainer):
    sample_tab.explain(CAT)
    sample_tab.page.fill("#search", typed)
    sample_tab.page.press("#search", "Enter")
    sample_tab.wait("window.xcam.last?.classId", class_id)
    compare(sample_tab.last(), explainer, CAT, class_id)
    assert sample_tab.page.locator("#classes input:checked").get_attribute("value") == str(class_id)


def test_a_class_that_is_not_there(sample_tab):
    sample_tab.explain(CAT)
    sample_tab.page.fill("#search", "no such animal")
    assert sample_tab.page.inner_text("#hint") == "No class is called that."
    sample_tab.page.fill("#search", "1000")
    assert sample_tab.page.locator("#hits button").count() == 0


def test_a_drop(sample_tab, explainer):
    sample_tab.explain(CAT)
    transfer(sample_tab, "drop", web.PHOTOS / "coffee.png", "dropped.png")
    sample_tab.wait("window.xcam.last?.name", "dropped.png")
    compare(sample_tab.last(), explainer, web.PHOTOS / "coffee.png")


def test_a_paste(sample_tab, explainer):
    transfer(sample_tab, "paste", web.PHOTOS / "rocket.jpg", "pasted.jpg")
    sample_tab.wait("window.xcam.last?.name", "pasted.jpg")
    compare(sample_tab.last(), explainer, web.PHOTOS / "rocket.jpg")


def transfer(tab: web.Tab, kind: str, photo: Path, name: str) -> None:
    """Send a drop or paste event that carries a file, as the browser does."""
    tab.page.evaluate(
        """([kind, name, text]) => {
          const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name));
          const options = { bubbles: true, cancelable: true };
          const target = document.getElementById("picking");
          if (kind === "drop") target.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: data }));
          else target.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
        }""",
        [kind, name, base64.b64encode(photo.read_bytes()).decode()],
    )


def test_the_last_of_several_photos_counts(sample_tab):
    sample_tab.explain(CAT)
    for photo in PHOTOS:
        transfer(sample_tab, "drop", photo, f"quick {photo.name}")
    sample_tab.wait("window.xcam.last?.name", f"quick {PHOTOS[-1].name}")
    sample_tab.ready()
    assert sample_tab.last()["classId"] == 657


def test_the_keyboard_is_enough(sample_tab, explainer):
    page = sample_tab.page
    sample_tab.explain(CAT)

    def reach(expression: str) -> None:
        for _ in range(20):
            if page.evaluate(f"document.activeElement.matches({expression!r})"):
                return
            page.keyboard.press("Tab")
        pytest.fail(f"Tab does not lead to {expression}")

    page.evaluate("document.activeElement.blur()")
    reach("#file")
    reach("#opacity")
    before = page.evaluate("document.getElementById('heat').style.opacity")
    page.keyboard.press("Home")
    assert (before, page.evaluate("document.getElementById('heat').style.opacity")) == ("0.75", "0")
    reach("#classes input")
    page.keyboard.press("ArrowDown")
    sample_tab.wait("window.xcam.last?.classId", int(explainer.explain(CAT, top=2).classes[0, 1]))
    page.keyboard.press("ArrowDown")
    sample_tab.wait("window.xcam.last?.classId", int(explainer.explain(CAT, top=3).classes[0, 2]))
    reach("#search")
    page.keyboard.type("poodle")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    sample_tab.wait("window.xcam.last?.label.includes('poodle') && window.xcam.last?.label != 'toy poodle'")
    page.keyboard.press("Escape")
    assert page.input_value("#search") == "" and page.locator("#hits button").count() == 0


def test_the_picture_can_be_saved(sample_tab, tmp_path):
    sample_tab.explain(CAT)
    with sample_tab.page.expect_download() as download:
        sample_tab.page.click("#save")
    assert download.value.suggested_filename == "cat.282.png"
    download.value.save_as(tmp_path / "saved.png")
    assert read_image(tmp_path / "saved.png").shape == read_image(CAT).shape


def test_the_overlay_is_the_package_s(sample_tab, explainer, tmp_path):
    sample_tab.explain(CAT)
    sample_tab.page.fill("#opacity", "75")
    with sample_tab.page.expect_download() as download:
        sample_tab.page.click("#save")
    download.value.save_as(tmp_path / "saved.png")
    drawn = read_image(tmp_path / "saved.png").astype(int)
    explanation = explainer.explain(CAT)
    top, left, bottom, right = explanation.pictures[0].placement.seen_box()
    off = np.abs(drawn - explanation.overlay(alpha=0.75))
    off[[top, bottom - 1], left:right] = off[top:bottom, [left, right - 1]] = 0  # the frame: there below the colours
    assert off.max() <= 3, "as the canvas rounds"


def variants(folder: Path) -> dict[str, Path]:
    """The same photo in the forms that photos come in."""
    photo = Image.fromarray(read_image(CAT))
    ramp = Image.linear_gradient("L").resize(photo.size)
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "progressive.jpg": (photo, {"progressive": True}),
        "fine.jpg": (photo, {"subsampling": 0, "quality": 98}),
        "grey.jpg": (photo.convert("L"), {}),
        "lossless.webp": (photo, {"lossless": True}),
        "palette.png": (photo.quantize(64), {}),
        "grey.png": (photo.convert("L"), {}),
        "clear.png": (Image.merge("RGBA", (*photo.split(), ramp)), {}),
    }
    for orientation in (2, 3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        made[f"turned {orientation}.jpg"] = (photo, {"exif": exif, "quality": 92})
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return {name: folder / name for name in made}


def test_forms_of_photos(sample_tab, explainer, tmp_path):
    """EXIF orientation, transparency, grey, palettes: as the package reads them."""
    for photo in variants(tmp_path).values():
        compare(sample_tab.explain(photo), explainer, photo)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"no picture", "“notes.txt” is not a picture that this browser can read, or a damaged one;"),
        ("empty.png", b"", "“empty.png” is empty."),
        ("cut.png", CAT.read_bytes()[:300], "“cut.png” is not a picture that this browser can read"),
    ],
)
def test_what_is_no_photo(name, content, says, sample_tab, tmp_path):
    """A sentence, and the page goes on."""
    (tmp_path / name).write_bytes(content)
    sample_tab.page.set_input_files("#file", tmp_path / name)
    sample_tab.wait("document.body.dataset.state", "error")
    assert sample_tab.message.startswith(says)
    assert sample_tab.explain(CAT)["classId"] == 282
    assert sample_tab.message == ""


def test_values_that_a_browser_does_not_give(browser, tmp_path):
    """A model that takes the file's own values gets those of a PNG of 8 bits, and no page guesses those of 16."""
    body = f"image = Cast<to=1>(values) {models.TRUNK} a = Relu(c2) {models.GAP}"
    weights = {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}
    onnx.save(models.build(body, weights, inputs="int32[N,3,12,12] values"), tmp_path / "m.onnx")
    made = write_page(tmp_path / "m.onnx", tmp_path / "page")
    deep = np.arange(12 * 12, dtype=np.uint16).reshape(12, 12) * 400
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray((deep // 256).astype(np.uint8)).save(tmp_path / "plain.png")
    with web.served(made.folder) as address, web.Tab(browser, address) as tab:
        tab.ready()
        tab.page.set_input_files("#file", tmp_path / "deep.png")
        tab.wait("document.body.dataset.state", "error")
        assert tab.message.startswith("“deep.png” holds 16 bits per channel, which the model wants as they are")
        shown = tab.explain(tmp_path / "plain.png")
        wanted = Explainer(tmp_path / "m.onnx", providers="cpu").explain(tmp_path / "plain.png")
        assert shown["score"] == pytest.approx(float(wanted.scores[0, 0]), rel=CLOSE)


@pytest.mark.parametrize("wrong", [{"interpolation": "linear"}, {"mean": [127, 127, 129]}, {"crop_fraction": 0.87}])
def test_a_slightly_wrong_page_is_noticed(wrong, folder, browser, explainer, tmp_path):
    """The comparison above can fail: a planted fault in the preprocessing moves the map by more than it allows."""
    shutil.copytree(folder, tmp_path / "page")
    stated = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    stated["preprocess"] |= wrong
    (tmp_path / "page/model.json").write_text(json.dumps(stated), encoding="utf-8")
    with web.served(tmp_path / "page") as address, web.Tab(browser, address) as tab:
        tab.ready()
        shown = tab.explain(CAT)
    wanted = explainer.explain(CAT, classes=[shown["classId"]]).maps[0, 0]
    assert web.furthest(shown["map"], wanted) > CLOSE


def test_nothing_is_asked_for_elsewhere(sample_tab):
    settled = {"", "model.json", "model.onnx", *PAGE_FILES[1:], *(f"runtime/{name}" for name in FILES.values())}
    asked = [url for url in sample_tab.asked if not url.startswith(("blob:", "data:"))]
    assert web.names(asked, sample_tab.address) == settled


def test_the_policy_forbids_it(folder, browser):
    """The page's own security policy, tried: neither another host nor code in a text."""
    with web.served(folder) as address, web.Tab(browser, address) as tab:
        tab.ready()
        refused = "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.constructor.name)"
        assert tab.page.evaluate(refused) == "TypeError"
        assert any("Content Security Policy" in text for text in tab.complaints)


# --- other models ----------------------------------------------------------------------------------------------------

SMALL = {"resize": "crop", "crop_fraction": 0.9, "scale": "1/255", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def changed_input(inputs: str, front: str) -> onnx.ModelProto:
    """The small CNN behind some nodes that make its `image` [N,3,12,12]."""
    weights = {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS}
    return models.build(f"{front} {models.TRUNK} a = Relu(c2) {models.GAP}", weights, inputs=inputs, seed=3)


def with_preprocess(model: onnx.ModelProto, preprocess: dict[str, Any]) -> onnx.ModelProto:
    model.metadata_props.add(key="onnx_xcam.preprocess", value=json.dumps(preprocess))
    return model


STYLES: dict[str, tuple[onnx.ModelProto, dict[str, Any]]] = {
    "open size, letterbox": (tiny_models.tiny(size="S"), {"preset": "yolo", "size": [40, 56]}),
    "stretched, area, BGR": (
        tiny_models.tiny(size=48),
        {"interpolation": "area", "channels": "BGR", "mean": [103.9, 116.8, 123.7]},
    ),
    "lanczos": (tiny_models.tiny(size=24), {**SMALL, "interpolation": "lanczos"}),
    "OpenCV's cubic": (tiny_models.tiny(size=24), {**SMALL, "interpolation": "cubic", "antialias": False}),
    "nearest": (tiny_models.tiny(size=20), {**SMALL, "interpolation": "nearest"}),
    "cut out first": (tiny_models.tiny(size=24), {**SMALL, "resize": "crop", "crop_first": True, "crop_fraction": 0.9}),
    "grey": (tiny_models.tiny(channels=1, size=24), {"preset": "gray"}),
    "batch of three": (tiny_models.tiny(n=3, end="softmax"), SMALL),
    "one logit": (tiny_models.tiny(classes=1), SMALL),
    "one probability": (tiny_models.tiny(classes=1, end="sigmoid"), SMALL),
    "log-probabilities": (tiny_models.tiny(end="logsoftmax"), SMALL),
    "labels at once": (tiny_models.tiny(end="sigmoid"), SMALL),
    "uint8 NHWC": (
        changed_input(
            "uint8[1,12,12,3] bytes",
            "f = Cast<to=1>(bytes) s = Constant<value_float=0.01>() m = Mul(f, s)image = Transpose<perm=[0,3,1,2]>(m)",
        ),
        {"interpolation": "linear"},
    ),
    "float16": (changed_input("float16[N,3,12,12] half", "image = Cast<to=1>(half)"), SMALL),
    "float16 all through": (
        models.build(
            f"image = Cast<to=1>(half) {models.TRUNK} a = Relu(c2) {models.GAP} scores = Cast<to=10>(logits)",
            {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS},
            inputs="float16[N,3,12,12] half",
            outputs="float16[N,5] scores",
        ),
        SMALL,
    ),
    "float64": (changed_input("double[N,3,12,12] double", "image = Cast<to=1>(double)"), SMALL),
    "int64": (
        changed_input(
            "int64[N,3,12,12] whole",
            "i = Cast<to=1>(whole) k = Constant<value_float=0.01>() image = Mul(i, k)",
        ),
        {"mean": 128},
    ),
    "old opset": (models.cnn(opset=9, ir=4), SMALL),
}


BY_DEFAULT = {"open size, letterbox", "one logit", "uint8 NHWC"}
"""The kinds that differ most; test_javascript.py compares the same steps of all of them with Python in Node, faster."""


@pytest.mark.parametrize(
    "style", [pytest.param(style, marks=() if style in BY_DEFAULT else pytest.mark.slow) for style in STYLES]
)
def test_styles(style, browser, tmp_path):
    model, preprocess = STYLES[style]
    path = tmp_path / "m.onnx"
    onnx.save(with_preprocess(model, preprocess), path)
    known = Explainer(path, providers="cpu").told_probabilities != "none"
    logits = "sigmoid" if style == "one logit" else "softmax"
    for probabilities in ("auto",) if known else ("auto", logits):
        page = write_page(path, tmp_path / probabilities, probabilities=probabilities)
        explainer = Explainer(path, providers="cpu", probabilities=probabilities)
        assert (explainer.told_probabilities == "none") is (probabilities == "auto" and not known)
        with web.served(page.folder) as address, web.Tab(browser, address) as tab:
            for photo in (CAT, web.PHOTOS / "coffee.png"):
                compare_small(tab, explainer, photo)
            assert tab.complaints == []


def compare_small(tab: web.Tab, explainer: Explainer, photo: Path) -> None:
    """All classes of a small model; random weights, so that some maps are zero everywhere, as the page then says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = explainer.explain(photo, top=explainer.model.loaded.class_count)
    tab.ready()
    tab.explain(photo)
    for k, class_id in enumerate(every.classes[0].tolist()):
        tab.page.click(f"#classes input[value='{class_id}']")
        tab.wait("window.xcam.last?.classId", class_id)
        shown = tab.last()
        assert shown["score"] == pytest.approx(float(every.scores[0, k]), rel=CLOSE, abs=1e-5)
        if every.probabilities is None:
            assert shown["probability"] is None
        else:
            assert shown["probability"] == pytest.approx(float(every.probabilities[0, k]), rel=CLOSE)
        assert shown["status"] == every.status[0, k]
        wanted = every.maps[0, k]
        assert np.abs(shown["map"] - wanted).max() <= CLOSE * max(wanted.max(), 1e-30)
        if shown["status"]:
            assert "zero everywhere" in tab.message


def test_the_styles_are_not_all_blank():
    """The comparisons above say something only where there is a map."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model, preprocess in STYLES.values():
            found = Explainer(model, preprocess=preprocess, providers="cpu").explain(CAT, top=2)
            assert found.maps.max() > 0


def test_other_inputs_and_an_instrumented_model(browser, tmp_path):
    """Constants for the rest, labels from a file beside the model, and a model that is instrumented already."""
    from onnx_xcam import instrument_file

    front = "k = Cast<to=1>(shift) image = Mul(photo, gain) moved = Add(image, k)"
    trunk = models.TRUNK.replace("(image", "(moved")
    model = models.build(
        f"{front} {trunk} a = Relu(c2) {models.GAP}",
        {**models.TRUNK_WEIGHTS, **models.GAP_WEIGHTS},
        inputs="float[N,3,12,12] photo, float[N,1,1,1] gain, int64[1] shift",
    )
    onnx.save(with_preprocess(model, SMALL), tmp_path / "plain.onnx")
    instrument_file(tmp_path / "plain.onnx", tmp_path / "made.onnx", emit=("map", "heatmap"), class_input="required")
    (tmp_path / "made.labels.txt").write_text("ant\nbee\n<b>cat</b>\ndog\nemu\n", encoding="utf-8")
    inputs = {"gain": 2.5, "shift": -1}
    page = write_page(tmp_path / "made.onnx", tmp_path / "page", inputs=inputs)
    assert (tmp_path / "page/model.onnx").read_bytes() == (tmp_path / "made.onnx").read_bytes()
    labels = tmp_path / "made.labels.txt"
    explainer = Explainer(tmp_path / "plain.onnx", labels=labels, inputs=inputs, providers="cpu")
    assert explainer.told_probabilities == "softmax of logits"
    with web.served(page.folder) as address, web.Tab(browser, address) as tab:
        compare_small(tab, explainer, CAT)
        assert "<b>cat</b>" in tab.page.inner_text("#classes"), "text, not markup"
        assert "'gain' is fed 2.5" in tab.page.text_content("#notes")
        assert tab.complaints == []


# --- what can go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (("model.onnx", None), "model.onnx could not be fetched (404); is it in the page's folder?"),
        (("model.onnx", b"short"), "model.onnx could not be read: it is shorter than model.json says"),
        (("model.json", None), "model.json could not be fetched (404); is it in the page's folder?"),
        (("model.json", b"{"), "model.json could not be read: "),
        (("runtime/ort.js", None), "The page's engine could not be started"),
        (("runtime/ort-wasm-simd-threaded.wasm", None), "The model cannot be loaded by ONNX Runtime in this browser: "),
    ],
)
def test_an_incomplete_folder(damage, says, folder, browser, tmp_path):
    file, content = damage
    shutil.copytree(folder, tmp_path / "page")
    if content is None:
        (tmp_path / "page" / file).unlink()
    else:
        (tmp_path / "page" / file).write_bytes(content)
    with web.served(tmp_path / "page") as address, web.Tab(browser, address) as tab:
        tab.wait("document.body.dataset.state", "error")
        assert tab.message.startswith(says)
        assert tab.page.evaluate("window.xcam.ready") is False
        assert tab.page.is_disabled("#file")


def test_a_model_that_is_damaged(folder, browser, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    size = (tmp_path / "page/model.onnx").stat().st_size
    (tmp_path / "page/model.onnx").write_bytes(b"\xff" * size)
    with web.served(tmp_path / "page") as address, web.Tab(browser, address) as tab:
        tab.wait("document.body.dataset.state", "error")
        assert tab.message.startswith("The model cannot be loaded by ONNX Runtime in this browser: ")


def test_opened_as_a_file(folder, browser):
    """No script runs then; the page says what to do."""
    with web.Tab(browser, (folder / "index.html").as_uri()) as tab:
        tab.wait("getComputedStyle(document.getElementById('unserved')).visibility", "visible")
        assert "python -m http.server" in tab.page.inner_text("#unserved")


def test_on_a_telephone_in_the_dark(folder, browser):
    """Nothing is wider than the screen, and the text can be read."""
    with (
        web.served(folder) as address,
        web.Tab(browser, address, viewport={"width": 360, "height": 700}, color_scheme="dark") as tab,
    ):
        tab.ready()
        tab.explain(CAT)
        tab.page.fill("#search", "a")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
        colours = "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
        ink, ground = (sum(map(int, text[4:-1].split(","))) for text in tab.page.evaluate(colours))
        assert ink > 600 and ground < 150


def test_the_licence_is_in_the_folder(folder):
    assert "MIT License" in (folder / "runtime" / LICENCE).read_text(encoding="utf-8")
    weights = onnx.load(folder / "model.onnx").graph.initializer
    assert all(numpy_helper.to_array(tensor).size for tensor in weights), "no weights elsewhere"
