"""The detectors in sample_models/ find what is there, and their maps lie on the objects that they are of."""

import json

import cv2
import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.detectors import overlap
from helpers.models import session
from onnx_xcam.images import InputSpec, Preprocess, preprocess_image, read_image
from tools.common.folders import PICTURES, SAMPLE_MODELS
from tools.common.scenes import DISC, LABELS, SIZE, Scene, random_scene, shipped_scene, twins

TINY = SAMPLE_MODELS / "tiny_detector.onnx"
MOST = 8
"""So many objects are asked for; no scene has more."""


def explained(model, scenes: list[Scene]) -> list[dict[str, np.ndarray]]:
    """What the tiny detector keeps of each scene, with a map for each object at the scene's size."""
    batch = np.stack([scene.image_rgb for scene in scenes]).transpose(0, 3, 1, 2).astype(np.float32) / 255
    names = ("objects", "classes", "boxes", "map")
    feed = {"images": batch, "xcam_object": np.broadcast_to(-1 - np.arange(MOST), (len(scenes), MOST))}
    rows = dict(zip(names, model.run([f"xcam_{name}" for name in names], feed), strict=True))
    found = []
    for index in range(len(scenes)):
        kept = rows["objects"][index] >= 0
        one = {name: rows[name][index][kept] for name in names}
        one["map"] = np.array([cv2.resize(raw, (SIZE, SIZE)) for raw in one["map"]]).reshape(-1, SIZE, SIZE)
        found.append(one)
    return found


def matches(scene: Scene, one: dict[str, np.ndarray]) -> dict[int, int]:
    """The place among the kept objects of each object of a scene that is found with class and box."""
    pairs = {}
    for index, (label, box) in enumerate(zip(scene.labels, scene.boxes, strict=True)):
        told = zip(one["boxes"], one["classes"], strict=True)
        overlaps = [overlap(box, other) * (label == its_label) for other, its_label in told]
        if overlaps and max(overlaps) > 0.5:
            pairs[index] = int(np.argmax(overlaps))
    return pairs


@pytest.fixture(scope="module")
def tiny():
    return session(onnx_xcam.instrument(TINY))


@pytest.fixture(scope="module")
def scenes():
    return [random_scene(np.random.default_rng(50_000 + seed)) for seed in range(60)]


@pytest.fixture(scope="module")
def results(tiny, scenes):
    return explained(tiny, scenes)


def test_the_tiny_detector_is_small_and_says_all_that_is_needed():
    assert TINY.stat().st_size < 500_000
    explainer = onnx_xcam.Explainer(TINY)
    assert list(explainer.labels) == list(LABELS)
    assert explainer.preprocess.resize == "letterbox"
    assert explainer.preprocess.scale == pytest.approx(1 / 255)


def test_the_shipped_picture_is_the_shipped_scene():
    np.testing.assert_array_equal(read_image(PICTURES / "shapes.png"), shipped_scene().image_rgb)


def test_it_finds_the_objects_of_new_scenes(scenes, results):
    objects = sum(len(scene.shapes) for scene in scenes)
    found = sum(len(matches(scene, one)) for scene, one in zip(scenes, results, strict=True))
    kept = sum(len(one["objects"]) for one in results)
    assert found >= 0.95 * objects
    assert kept - found <= 0.1 * objects


def test_a_map_lies_on_its_object_and_not_on_the_others(scenes, results):
    inside, others = [], []
    for scene, one in zip(scenes, results, strict=True):
        for index, place in matches(scene, one).items():
            share = one["map"][place] / one["map"][place].sum()
            areas = np.zeros((len(scene.shapes), SIZE, SIZE), bool)
            for area, (x1, y1, x2, y2) in zip(areas, scene.boxes.astype(int), strict=True):
                area[y1:y2, x1:x2] = True
            inside.append(share[areas[index]].sum())
            others.append(share[areas.any(0) & ~areas[index]].sum())
    assert len(inside) > 100
    assert np.mean(inside) > 0.42
    assert np.mean(others) < 0.1


def test_a_map_of_one_twin_is_not_on_the_other(tiny):
    pairs = [twins(np.random.default_rng(seed), seed % len(LABELS)) for seed in range(24)]
    shares = []
    for (scene, _), one in zip(pairs, explained(tiny, [scene for scene, _ in pairs]), strict=True):
        found = matches(scene, one)
        for index, place in found.items():
            raw = one["map"][place]
            shares.append(raw[scene.masks[1 - index]].sum() / raw.sum())
    assert len(shares) > 20
    assert np.mean(shares) < 0.1


def test_a_scene_without_objects_has_none(tiny):
    empty = [random_scene(np.random.default_rng(seed), count=0) for seed in range(20)]
    shown = random_scene(np.random.default_rng(1), labels=[DISC])
    counts = [len(one["objects"]) for one in explained(tiny, [*empty, shown])]
    assert np.mean(counts[:-1]) <= 0.1
    assert counts[-1] >= 1


@pytest.mark.parametrize("name", ["tiny_detector.onnx", "picodet_layout.onnx"])
def test_the_files_are_sound(name):
    model = onnx.load(SAMPLE_MODELS / name)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key for entry in model.metadata_props} == {"onnx_xcam.labels", "onnx_xcam.preprocess"}
    assert len(model.SerializeToString()) < 4_000_000


def decoded(outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The corners [Q,4] in pixels of the input and the probabilities [Q,C] of PicoDet's outputs, as its authors decode.

    https://github.com/PaddlePaddle/PaddleOCR/blob/main/ppocr/postprocess/picodet_postprocess.py
    """
    corners, height, width = [], 800, 608
    for bins, stride in zip(outputs[4:], (8, 16, 32, 64), strict=True):
        logits = bins[0].reshape(-1, 4, 8)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        left, top, right, bottom = ((shares / shares.sum(-1, keepdims=True)) @ np.arange(8.0) * stride).T
        y, x = np.mgrid[: -(-height // stride), : -(-width // stride)].reshape(2, -1) * stride + stride / 2
        corners.append(np.stack([x - left, y - top, x + right, y + bottom], 1))
    return np.concatenate(corners), np.concatenate([p[0] for p in outputs[:4]])


def kept_by_hand(corners: np.ndarray, p: np.ndarray) -> list[tuple[int, int]]:
    """The candidates and classes with p above 0.25, of those of a class that overlap by more than 0.45 the best."""
    best, label = p.max(1), p.argmax(1)
    kept: list[int] = []
    for index in np.argsort(-best, kind="stable")[: (best > 0.25).sum()]:
        if all(label[index] != label[one] or overlap(corners[index], corners[one]) <= 0.45 for one in kept):
            kept.append(int(index))
    return [(one, int(label[one])) for one in kept]


def test_the_parts_of_the_page_are_those_that_are_decoded_by_hand():
    path = SAMPLE_MODELS / "picodet_layout.onnx"
    stated = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    spec = InputSpec("image", np.dtype(np.float32), "NCHW", 3)
    preprocess = Preprocess.from_dict(stated["onnx_xcam.preprocess"])
    item, placement = preprocess_image(read_image(PICTURES / "page.png"), preprocess, spec)
    model = session(onnx_xcam.instrument(path, emit=("map", "status")))
    feed = {"image": item[None], "xcam_object": -1 - np.arange(30)[None]}
    names = [output.name for output in model.get_outputs()]
    rows = dict(zip(names, model.run(None, feed), strict=True))
    corners, p = decoded([rows[name] for name in names[:8]])
    expected = kept_by_hand(corners, p)
    count = len(expected)
    assert 20 <= count < 30
    found = list(zip(rows["xcam_objects"][0].tolist(), rows["xcam_classes"][0].tolist(), strict=True))
    assert found[:count] == expected
    assert (rows["xcam_objects"][0, count:] == -1).all()
    np.testing.assert_allclose(rows["xcam_boxes"][0, :count], corners[[one for one, _ in expected]], atol=0.01)
    assert (rows["xcam_status"][0, :count] == 0).all()
    labels = stated["onnx_xcam.labels"]
    (figure,) = (n for n, (_, label) in enumerate(expected) if labels[label] == "figure")
    wide = (912 - 2 * 70 - 30) // 2  # the column that the photo, 451 x 300, fills
    photo = (912 - 70 - wide, 160, 912 - 70, 160 + wide * 300 / 451)
    assert overlap(placement.to_photo(rows["xcam_boxes"][0, figure]), np.array(photo)) > 0.9
