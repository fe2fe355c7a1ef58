"""What a synthetic scene says of its objects is what is painted."""

from dataclasses import replace

import numpy as np
import pytest

from onnx_xcam.evaluation.annotations import read_annotations
from onnx_xcam.images import read_image
from tools.common.scenes import BLUE_DOT, LABELS, MARKS, RED_DOT, SIZE, random_scene, twins
from tools.evaluation import scenes

SCENES = [random_scene(np.random.default_rng(seed)) for seed in range(40)]


def test_scenes_follow_from_the_generator():
    first, again, other = (random_scene(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image_rgb, again.image_rgb)
    assert first.shapes == again.shapes
    assert (first.image_rgb != other.image_rgb).any()
    assert (first.image_rgb.shape, first.image_rgb.dtype) == ((SIZE, SIZE, 3), np.uint8)


def test_a_box_is_that_of_the_objects_pixels():
    for scene in SCENES:
        for mask, box in zip(scene.masks, scene.boxes, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert tuple(box) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_objects_do_not_overlap_and_lie_within_the_scene():
    for scene in SCENES:
        assert scene.masks.sum(0).max() <= 1
        assert scene.boxes.min() >= 0
        assert scene.boxes.max() <= SIZE


def test_only_an_objects_pixels_are_painted():
    for scene in SCENES:
        for index, mask in enumerate(scene.masks):
            changed = (scene.image_rgb != scene.without(index).image_rgb).any(2)
            assert not (changed & ~mask).any()
            assert changed.sum() > 0.95 * mask.sum()  # a few pixels have the background's colour by chance


def test_the_mark_alone_differs_between_its_classes():
    count = 0
    for scene in SCENES:
        for index, (shape, mark, mask) in enumerate(zip(scene.shapes, scene.marks, scene.masks, strict=True)):
            if shape.label not in MARKS:
                assert not mark.any()
                continue
            count += 1
            assert not (mark & ~mask).any()
            assert (scene.image_rgb[mark] == MARKS[shape.label]).all()
            other = replace(shape, label=RED_DOT + BLUE_DOT - shape.label)
            changed = (scene.image_rgb != scene.changed(index, other).image_rgb).any(2)
            np.testing.assert_array_equal(changed, mark)
    assert count > 20


def test_classes_can_be_chosen():
    scene = random_scene(np.random.default_rng(3), labels=[2, 0, 1])
    assert scene.labels.tolist() == [2, 0, 1]
    assert len(random_scene(np.random.default_rng(3), count=2).shapes) == 2
    assert random_scene(np.random.default_rng(3), count=0).boxes.shape == (0, 4)
    assert random_scene(np.random.default_rng(3), (64, 160)).image_rgb.shape == (64, 160, 3)
    assert {int(label) for scene in SCENES for label in scene.labels} == set(range(len(LABELS)))


@pytest.mark.parametrize("label", range(len(LABELS)))
def test_twins_have_the_same_pixels(label):
    for seed in range(10):
        scene, apart = twins(np.random.default_rng(seed), label)
        assert apart >= 32
        assert apart % 32 == 0
        first, second = scene.masks
        np.testing.assert_array_equal(first[:, : SIZE - apart], second[:, apart:])
        np.testing.assert_array_equal(scene.image_rgb[first], scene.image_rgb[second])


def test_a_moved_object_has_the_same_pixels():
    scene = random_scene(np.random.default_rng(0), (96, 200), labels=[RED_DOT])
    moved = scene.of([scene.shapes[0].moved(7, 0)])
    np.testing.assert_array_equal(scene.image_rgb[scene.masks[0]], moved.image_rgb[moved.masks[0]])


def test_written_scenes_are_read_back_with_their_truth(tmp_path):
    """The files are those that `evaluate` takes; their boxes are the scenes' own."""
    scenes.write(tmp_path, 6, seed=3)
    expected = [random_scene(np.random.default_rng(3 + number)) for number in range(6)]
    boxes, marks = (read_annotations(tmp_path / f"{name}.json") for name in ("boxes", "marks"))
    for number, scene in enumerate(expected):
        name = f"{number:04d}.png"
        np.testing.assert_array_equal(read_image(tmp_path / "scenes" / name), scene.image_rgb)
        stated = [(box.x0, box.y0, box.x1, box.y1, box.name) for box in boxes[name].boxes]
        assert stated == [(*box, LABELS[label]) for box, label in zip(scene.boxes, scene.labels, strict=True)]
        of_marks = marks[name].boxes if name in marks else ()
        assert [box.name for box in of_marks] == [LABELS[label] for label in scene.labels if label in MARKS]
        for index, mask in enumerate(scene.masks):
            read = read_image(tmp_path / "masks" / f"{number:04d}.{index}.png")
            np.testing.assert_array_equal(read[..., 0] > 0, mask)
