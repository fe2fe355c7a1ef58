"""The page's own preprocessing and heat map, run in Node, against the package's."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import PIL
import pytest

from helpers import web
from onnx_xcam.images import InputSpec, Preprocess, preprocess_image
from onnx_xcam.images.place import Placement, scale_heatmap
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.images.read import read_image

PREPARE = """
import fs from "node:fs";
import { preprocessImage } from "#/preprocess.js";
const [folder] = process.argv.slice(-1);
for (const job of JSON.parse(fs.readFileSync(`${folder}/jobs.json`))) {
  const { photo, height, width, input, preprocess, batch, out } = job;
  const image = { data: new Uint8Array(fs.readFileSync(`${folder}/${photo}`)), height, width };
  const { data, dims, placement } = preprocessImage(image, input, preprocess, batch);
  fs.writeFileSync(`${folder}/${out}.bin`, Buffer.from(data.buffer));
  fs.writeFileSync(`${folder}/${out}.json`, JSON.stringify({ dims, placement }));
}
"""
RANDOM = np.random.default_rng(5)
pytestmark = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older Pillows resize tall photos else")
CASES = {
    "cat": read_image(web.PHOTOS / "cat.png"),
    "twice": RANDOM.integers(0, 256, (128, 128, 3), np.uint8),
    "as it is": RANDOM.integers(0, 256, (64, 64, 3), np.uint8),
    "higher only": RANDOM.integers(0, 256, (64, 91, 3), np.uint8),
    "tall": RANDOM.integers(0, 256, (190, 90, 3), np.uint8),
    "small": RANDOM.integers(0, 256, (23, 17, 3), np.uint8),
    "narrow": RANDOM.integers(0, 256, (9, 400, 3), np.uint8),
}
"""Photos for an input of 64 x 64."""
BYTES = InputSpec("x", np.dtype("uint8"), "NHWC", 3, 64, 64)


def prepared(folder: Path, jobs: list[tuple[np.ndarray, Preprocess, InputSpec, int]]) -> list[tuple]:
    """(array, what the page says of it) for each job, in one run of Node."""
    listed = []
    for number, (photo, preprocess, spec, batch) in enumerate(jobs):
        photo.tofile(folder / f"{number}.rgb")
        height, width = preprocess.input_size(spec)
        given = {"dtype": str(spec.dtype), "layout": spec.layout, "height": height, "width": width}
        size = {"height": photo.shape[0], "width": photo.shape[1], "batch": batch, "out": number}
        listed.append({"photo": f"{number}.rgb", **size, "input": given, "preprocess": preprocess.to_dict()})
    (folder / "jobs.json").write_text(json.dumps(listed), encoding="utf-8")
    web.run_node(PREPARE, folder)
    found = []
    for number, (_, _, spec, _) in enumerate(jobs):
        told = json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
        found.append((np.fromfile(folder / f"{number}.bin", spec.dtype).reshape(told["dims"]), told["placement"]))
    return found


@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [*itertools.product(("nearest", "linear", "cubic", "lanczos"), (True, False)), ("area", True)],
)
def test_resizing(interpolation, antialias, tmp_path):
    """As Pillow to the last bit. As OpenCV within one level of 256, and that in few pixels: its kernels round each in
    their own way, and not alike on all processors."""
    styles = [
        Preprocess(interpolation=interpolation, antialias=antialias, resize=resize, crop_fraction=fraction, pad_value=9)
        for resize in ("stretch", "crop", "letterbox")
        for fraction in (1.0, 0.875)
    ]
    jobs = [(photo, style, BYTES, 1) for photo in CASES.values() for style in styles]
    exact = interpolation == "nearest" or (antialias and interpolation != "area")
    for (photo, style, spec, _), (found, laid) in zip(jobs, prepared(tmp_path, jobs), strict=True):
        wanted, placement = preprocess_image(photo, style, spec)
        keys = ("photo", "input", "scaled", "offset")
        assert laid == {key: list(getattr(placement, key)) for key in keys} | {"part": None}
        off = np.abs(found[0].astype(int) - wanted)
        assert off.max() <= (0 if exact else 1), (photo.shape, style)
        assert (off > 0).mean() <= 0.01, (photo.shape, style)


def test_the_order_of_the_passes(tmp_path):
    """Rows or columns first: it shows in the last bits, and Pillow decides by the sizes."""
    style = Preprocess(interpolation="cubic", resize="stretch")
    photos = [RANDOM.integers(0, 256, (h, w, 3), np.uint8) for h in range(50, 230, 9) for w in (40, 64, 80, 101)]
    jobs = [(photo, style, BYTES, 1) for photo in photos]
    for (photo, _, spec, _), (found, _) in zip(jobs, prepared(tmp_path, jobs), strict=True):
        np.testing.assert_array_equal(found[0], preprocess_image(photo, style, spec)[0], str(photo.shape))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_values(dtype, layout, tmp_path):
    """To the last bit of the type."""
    styles = [*PRESETS.values()] if dtype.startswith("float") else [PRESETS["raw"], PRESETS["raw"].replace(mean=(128,))]
    if dtype == "int8":
        styles = styles[1:]
    if dtype == "uint8":
        styles = styles[:1]
    jobs = [
        (photo, style, InputSpec("x", np.dtype(dtype), layout, 1 if style.channels == "GRAY" else 3, 64, 60), 2)
        for photo in (CASES["cat"], CASES["small"])
        for style in (style.replace(antialias=True) for style in styles)
    ]
    for (photo, style, spec, batch), (found, _) in zip(jobs, prepared(tmp_path, jobs), strict=True):
        wanted, _ = preprocess_image(photo, style, spec)
        assert found.dtype == wanted.dtype
        off = found != np.stack([wanted] * batch)
        if style.channels == "GRAY":  # a mean that lies halfway between two levels may go either way
            assert off.mean() <= 1e-3 and np.abs(found - wanted).max() <= 1.01 / 255
        else:
            assert not off.any(), style


GEOMETRIES = [
    {"resize_size": (70, 90)},
    {"resize_size": (256, 256), "offset_rounding": "floor"},
    {"resize_size": (40, 50), "offset_rounding": "floor"},
    {"size_rounding": "round", "crop_fraction": 0.875},
    {"size_rounding": "floor", "align": "start"},
    {"size_rounding": "exact"},
    {"size_rounding": "exact", "crop_fraction": 0.875, "interpolation": "cubic"},
    {"size_rounding": "exact", "crop_fraction": 0.875, "interpolation": "nearest"},
    {"size_rounding": "exact", "crop_fraction": 0.9, "interpolation": "linear", "antialias": False},
    {"crop_first": True},
    {"crop_first": True, "crop_fraction": 0.875, "offset_rounding": "floor"},
]


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
def test_geometries(resize, tmp_path):
    """Every setting of the geometry, with a border of its own in each channel that no pixel has."""
    styles = [
        Preprocess(resize=resize, scale=0.5, mean=(1, 2, 3), pad_value=(0.25, 7, 250.5), **geometry)
        for geometry in GEOMETRIES
    ]
    floats = InputSpec("x", np.dtype("float32"), "NCHW", 3, 64, 60)
    photos = [CASES[name] for name in ("cat", "as it is", "tall", "small", "narrow")]
    jobs = [(photo, style, floats, 1) for photo in photos for style in styles]
    for (photo, style, spec, _), (found, laid) in zip(jobs, prepared(tmp_path, jobs), strict=True):
        wanted, placement = preprocess_image(photo, style, spec)
        keys = ("photo", "input", "scaled", "offset")
        part = None if placement.part is None else list(placement.part)
        assert laid == {key: list(getattr(placement, key)) for key in keys} | {"part": part}
        off = np.abs(found[0] - wanted)
        assert off.max() <= (0 if style.antialias else style.scale), (photo.shape, style)  # OpenCV: see above
        assert (off > 0).mean() <= 0.01, (photo.shape, style)


def test_placements(tmp_path):
    """Sizes and offsets of many photos, whose roundings are the package's."""
    sizes = RANDOM.integers(1, 900, (600, 2)).tolist() + [[h, w] for h in range(1, 30, 2) for w in range(1, 30, 3)]
    styles = [
        (Preprocess(resize=resize, **geometry), target)
        for resize in ("stretch", "crop", "letterbox")
        for geometry in [*({"crop_fraction": fraction} for fraction in (1.0, 0.9, 0.875)), *GEOMETRIES]
        for target in ((224, 224), (15, 32))
    ]
    stated = [{"preprocess": style.to_dict(), "target": target} for style, target in styles]
    (tmp_path / "jobs.json").write_text(json.dumps({"sizes": sizes, "styles": stated}), encoding="utf-8")
    script = """
    import fs from "node:fs";
    import { placement } from "#/preprocess.js";
    const { sizes, styles } = JSON.parse(fs.readFileSync(process.argv.at(-1)));
    const found = styles.map(({ preprocess, target }) => sizes.map((size) => placement(size, target, preprocess)));
    console.log(JSON.stringify(found.map((row) => row.map(({ scaled, offset }) => [scaled, offset]))));
    """
    found = json.loads(web.run_node(script, tmp_path / "jobs.json"))
    for (style, target), row in zip(styles, found, strict=True):
        wanted = [style.placement(tuple(size), target) for size in sizes]
        assert row == [[list(laid.scaled), list(laid.offset)] for laid in wanted]


def test_half_precision():
    """Every kind of number, and halves between two neighbours."""
    bits = np.arange(0, 0x7C00, 7, dtype=np.uint16)
    numbers = bits.view(np.float16).astype(np.float64)
    between = (numbers[:-1] + np.nextafter(bits[:-1].view(np.float16), np.float16(np.inf)).astype(np.float64)) / 2
    values = np.concatenate([numbers, between, -numbers, RANDOM.normal(0, 3, 2000), [65519.9, 1e-9]])
    script = """
    import { float16Bits } from "#/preprocess.js";
    import fs from "node:fs";
    console.log(JSON.stringify(JSON.parse(fs.readFileSync(0)).map(float16Bits)));
    """
    import subprocess

    command = [web.node(), "--input-type=module", "--eval", script.replace("#/", web.WEB.as_uri() + "/")]
    done = subprocess.run(command, input=json.dumps(values.tolist()), capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(json.loads(done.stdout), values.astype(np.float16).view(np.uint16))


HEAT = """
import fs from "node:fs";
import { heatmap, seenBox } from "#/heatmap.js";
const jobs = JSON.parse(fs.readFileSync(process.argv.at(-1)));
const found = jobs.map(({ map, placement, size }) => {
  map.data = map.data.map((value) => value ?? NaN);
  return { seen: seenBox(placement, size), heat: [...heatmap(map, placement, size)] };
});
console.log(JSON.stringify(found));
"""


def test_heat_maps(tmp_path):
    """The map on the photo, through every geometry, and maps that are flat or not finite."""
    laid = [
        Preprocess(resize=resize, crop_fraction=0.875, crop_first=crop_first).placement(photo, (64, 64))
        for resize, crop_first in [("stretch", False), ("crop", False), ("letterbox", False), ("crop", True)]
        for photo in ((40, 90), (90, 40), (64, 64), (3, 7))
    ]
    maps = [RANDOM.random((7, 7)), RANDOM.random((1, 3)), np.zeros((2, 2)), np.full((2, 2), 3.0), RANDOM.random((4, 4))]
    maps[-1][1, 2] = np.nan
    maps.append(np.full((2, 3), np.nan))
    cases = [(map_.astype(np.float32), place) for map_ in maps for place in laid]
    jobs = [
        {
            "map": {
                "data": [None if np.isnan(v) else float(v) for v in m.ravel()],
                "height": len(m),
                "width": m.shape[1],
            },
            "placement": {key: getattr(place, key) for key in ("photo", "input", "scaled", "offset")},
            "size": place.photo,
        }
        for m, place in cases
    ]
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    for (map_, place), found in zip(cases, json.loads(web.run_node(HEAT, tmp_path / "jobs.json")), strict=True):
        assert isinstance(place, Placement)
        assert tuple(found["seen"]) == place.seen_box()
        wanted = scale_heatmap(place.place(map_), place.seen())
        np.testing.assert_allclose(np.array(found["heat"]).reshape(place.photo), wanted, atol=2e-6)
