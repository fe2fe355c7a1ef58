"""The pointing game and the energy inside, and the masks and boxes that they are held against."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from onnx_xcam.errors import ImageError, InputError, TruthError
from onnx_xcam.evaluation.truth import TOLERANCE, energy_inside, load_truth, pointing_game, score_against
from onnx_xcam.images import read_mask

SIZE = (40, 60)
PHOTOS = [Path("set/cat.jpg"), Path("set/dog.jpg"), Path("set/none.jpg")]
LABELS = ["Tiger Cat", "dog"]


def peak(row: int, column: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    heatmap = np.full(size, 0.1, np.float32)
    heatmap[row, column] = 1
    return heatmap


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def png(folder: Path, name: str, pixels: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, pixels)
    assert done
    path.write_bytes(bytes(data))
    return path


class TestPointingGame:
    @pytest.mark.parametrize(
        ("column", "hit"),
        [(30, True), (39, True), (39 + TOLERANCE, True), (40 + TOLERANCE, False), (20 - TOLERANCE, True), (4, False)],
    )
    def test_reaches_as_far_as_the_tolerance(self, column, hit):
        assert pointing_game(peak(15, column), rectangle(10, 20, 20, 40)) is hit

    def test_the_tolerance_is_a_circle_and_not_a_square(self):
        corner = rectangle(0, 5, 0, 5)
        assert pointing_game(peak(4 + 9, 4 + 12), corner)  # 15 = sqrt(9² + 12²)
        assert not pointing_game(peak(4 + 10, 4 + 12), corner)

    def test_without_tolerance_only_the_object_counts(self):
        mask = rectangle(10, 20, 20, 40)
        assert pointing_game(peak(19, 39), mask, tolerance=0)
        assert not pointing_game(peak(19, 40), mask, tolerance=0)

    def test_a_plateau_points_with_its_middle(self):
        heatmap = np.zeros(SIZE, np.float32)
        heatmap[0:31, 50] = 1  # as a map resized from a cell at the border is: the middle is at row 15
        assert pointing_game(heatmap, rectangle(15, 16, 50, 51), tolerance=0)
        assert not pointing_game(heatmap, rectangle(0, 1, 50, 51), tolerance=0)

    def test_a_map_of_nothing_misses(self):
        assert not pointing_game(np.zeros(SIZE, np.float32), np.ones(SIZE, np.bool_))

    def test_what_speaks_against_does_not_point(self):
        heatmap = peak(2, 2)
        heatmap[15, 30] = -5
        assert not pointing_game(heatmap, rectangle(10, 20, 25, 40), tolerance=3)


class TestEnergy:
    def test_is_the_share_of_the_sum(self):
        heatmap = np.zeros(SIZE, np.float32)
        heatmap[0, :3] = 1, 2, 5
        assert energy_inside(heatmap, rectangle(0, 1, 1, 2)) == pytest.approx(0.25)
        assert energy_inside(heatmap, rectangle(0, 1, 0, 60)) == 1

    def test_an_even_map_gets_the_share_of_the_object(self):
        score = score_against(np.ones(SIZE, np.float32), rectangle(0, 10, 0, 30))
        assert score.energy == pytest.approx(score.object_share) == pytest.approx(300 / 2400)

    def test_negative_values_do_not_count(self):
        heatmap = peak(0, 0)
        heatmap[30:, :] = -9
        assert 0 < energy_inside(heatmap, rectangle(0, 1, 0, 1)) < 1

    def test_a_map_of_nothing_has_no_energy_anywhere(self):
        assert energy_inside(np.zeros(SIZE, np.float32), np.ones(SIZE, np.bool_)) == 0

    def test_float32_does_not_lose_small_values(self):
        heatmap = np.full((4000, 5000), 1e-4, np.float32)
        heatmap[0, 0] = 1000
        mask = np.zeros(heatmap.shape, np.bool_)
        mask[1:] = True
        expected = 1e-4 * 3999 * 5000 / (1000 + 1e-4 * (4000 * 5000 - 1))
        assert energy_inside(heatmap, mask) == pytest.approx(expected, rel=1e-6)


def test_pointing_at_the_middle_is_what_a_score_is_held_against():
    assert score_against(peak(0, 0), rectangle(0, 3, 0, 3)) == score_against(peak(0, 0), rectangle(0, 3, 0, 3))
    assert not score_against(peak(0, 0), rectangle(0, 3, 0, 3)).centre_hit
    assert score_against(peak(0, 0), rectangle(18, 25, 25, 35)).centre_hit


@pytest.mark.parametrize(
    ("heatmap", "mask", "message"),
    [
        (np.ones((4, 4)), np.ones((4, 5), np.bool_), r"The map is \[4, 4\] and the mask \[4, 5\]"),
        (np.ones((1, 4, 4)), np.ones((1, 4, 4), np.bool_), "both must be"),
        (np.ones((4, 4)), np.zeros((4, 4), np.bool_), "at least one pixel"),
        (np.ones((4, 4)), np.ones((4, 4), np.uint8), "must be bool"),
        (np.full((4, 4), np.nan), np.ones((4, 4), np.bool_), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(heatmap, mask, message):
    for metric in (pointing_game, energy_inside):
        with pytest.raises(InputError, match=message):
            metric(heatmap, mask)


class TestMasks:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("value", [1, 255])
    def test_every_value_but_zero_is_the_object(self, tmp_path, dtype, value):
        expected = rectangle(5, 10, 20, 50)
        path = png(tmp_path, "m.png", expected.astype(dtype) * value)
        assert (read_mask(path) == expected).all()

    def test_colours_and_transparency(self, tmp_path):
        pixels = np.zeros((2, 3, 4), np.uint8)
        pixels[0, 0] = 0, 1, 0, 255
        pixels[0, 1] = 9, 9, 9, 0  # transparent, whatever its colour
        pixels[0, 2, 3] = 255  # black
        assert read_mask(png(tmp_path, "m.png", pixels)).tolist() == [[True, False, False], [False] * 3]

    def test_a_jpeg_is_refused(self, tmp_path):
        with pytest.raises(ImageError, match="cannot be a JPEG"):
            read_mask(png(tmp_path, "m.jpg", np.zeros((4, 4), np.uint8)))

    def test_are_found_by_the_photos_name(self, tmp_path):
        expected = rectangle(5, 10, 20, 50)
        png(tmp_path, "cat.png", expected.astype(np.uint8))
        png(tmp_path, "other.png", expected.astype(np.uint8))
        truth = load_truth(tmp_path, PHOTOS)
        assert truth.photos == [PHOTOS[0]]
        for chosen in ({"class_id": 0}, {"label": "dog"}, {}):
            assert (truth.of("set/cat.jpg", SIZE, **chosen) == expected).all()
        assert truth.of("set/dog.jpg", SIZE) is None

    def test_folders_tell_photos_of_one_name_apart(self, tmp_path):
        first, second = rectangle(0, 5, 0, 5), rectangle(5, 9, 5, 9)
        png(tmp_path, "a/1.png", first.astype(np.uint8))
        png(tmp_path, "b/1.png", second.astype(np.uint8))
        truth = load_truth(tmp_path, ["photos/a/1.jpg", "photos/b/1.jpg"])
        assert (truth.of("photos/a/1.jpg", SIZE) == first).all()
        assert (truth.of("photos/b/1.jpg", SIZE) == second).all()

    def test_one_mask_for_two_photos_is_refused(self, tmp_path):
        png(tmp_path, "1.png", np.ones(SIZE, np.uint8))
        with pytest.raises(TruthError, match=r"could be .*a.1\.jpg or .*b.1\.jpg"):
            load_truth(tmp_path, ["a/1.jpg", "b/1.jpg"])

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.ones((40, 61), np.uint8), "the mask is 61 x 40, but the upright photo is 60 x 40"),
            (np.zeros(SIZE, np.uint8), "marks no pixel"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path, pixels, message):
        png(tmp_path, "cat.png", pixels)
        with pytest.raises(TruthError, match=message):
            load_truth(tmp_path, PHOTOS).of(PHOTOS[0], SIZE)

    def test_a_damaged_mask_is_refused(self, tmp_path):
        written(tmp_path, "cat.png", "no picture")
        with pytest.raises(TruthError, match=r"cat\.png: not a picture"):
            load_truth(tmp_path, PHOTOS).of(PHOTOS[0], SIZE)


def coco(**changes) -> dict:
    data = {
        "images": [{"id": 7, "file_name": "cat.jpg", "height": 40, "width": 60}, {"id": 8, "file_name": "dog.jpg"}],
        "categories": [{"id": 1, "name": "tiger cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 5, 20, 10]},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5]},
            {"id": 3, "image_id": 8, "category_id": 2, "bbox": [50.4, 30.4, 9.6, 9.6]},
        ],
    }
    return {**data, **changes}


VOC = """<annotation><!-- by hand --><filename>elsewhere.png</filename>
<size><width>60</width><height>40</height><depth>3</depth></size>
<object><name>tiger cat</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>15</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
</annotation>"""

BOXED = {
    "coco.json": json.dumps(coco()),
    "boxes.json": json.dumps({"cat.jpg": {"tiger cat": [[10, 5, 30, 15]], "1": [[0, 0, 5, 5]]}}),
    "boxes.csv": "filename,class,xmin,ymin,xmax,ymax\ncat.jpg,Tiger cat,10,5,30,15\ncat.jpg,1,0,0,5,5\n",
    "cat.xml": VOC,
}


@pytest.mark.parametrize("name", BOXED)
def test_one_box_in_every_format(tmp_path, name):
    truth = load_truth(written(tmp_path, name, BOXED[name]), PHOTOS, labels=LABELS)
    cat, dog = rectangle(5, 15, 10, 30), rectangle(0, 5, 0, 5)
    assert (truth.of(PHOTOS[0], SIZE, class_id=0, label="Tiger Cat") == cat).all()
    assert (truth.of(PHOTOS[0], SIZE, class_id=1, label="dog") == dog).all()
    assert truth.of(PHOTOS[0], SIZE, class_id=2, label="fish") is None
    assert truth.of(PHOTOS[2], SIZE, class_id=0) is None
    everything = load_truth(written(tmp_path, name, BOXED[name]), PHOTOS, any_class=True)
    assert (everything.of(PHOTOS[0], SIZE, class_id=2, label="fish") == (cat | dog)).all()


def test_a_folder_of_pascal_voc(tmp_path):
    written(tmp_path, "cat.xml", VOC)
    written(tmp_path, "dog.xml", VOC)
    assert load_truth(tmp_path, PHOTOS, labels=LABELS).photos == PHOTOS[:2]


def test_boxes_without_a_class_count_for_every_class(tmp_path):
    path = written(tmp_path, "b.json", json.dumps({"cat.jpg": [[10, 5, 30, 15]], "dog.jpg": []}))
    truth = load_truth(path, PHOTOS)
    assert (truth.of(PHOTOS[0], SIZE, class_id=5) == rectangle(5, 15, 10, 30)).all()
    assert truth.of(PHOTOS[1], SIZE, class_id=5) is None


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([10.4, 5.4, 29.6, 14.6], rectangle(5, 15, 10, 30)),  # the middles of pixels decide
        ([10.6, 5.6, 29.4, 14.4], rectangle(6, 14, 11, 29)),
        ([-0.5, -1, 60.9, 41], rectangle(0, 40, 0, 60)),  # rounding
        ([10.6, 5, 11.2, 6], rectangle(5, 6, 10, 11)),  # thinner than a pixel
        ([59.6, 39.6, 60.5, 40.5], rectangle(39, 40, 59, 60)),
        ([-0.9, -0.9, 0.2, 0.2], rectangle(0, 1, 0, 1)),
    ],
)
def test_pixels_of_a_box(tmp_path, box, expected):
    truth = load_truth(written(tmp_path, "b.json", json.dumps({"cat.jpg": [box]})), PHOTOS)
    assert (truth.of(PHOTOS[0], SIZE) == expected).all()


@pytest.mark.parametrize("box", [[0, 0, 61.1, 5], [-1.1, 0, 5, 5], [0, 0, 5, 42], [60, 0, 60.5, 5], [70, 3, 80, 9]])
def test_a_box_outside_of_the_photo_is_refused(tmp_path, box):
    truth = load_truth(written(tmp_path, "b.json", json.dumps({"cat.jpg": [box]})), PHOTOS)
    with pytest.raises(TruthError, match=r"b\.json: cat\.jpg: the box \[.*\] lies outside of the photo.* 60 x 40"):
        truth.of(PHOTOS[0], SIZE)


def test_a_photo_of_another_size_is_refused(tmp_path):
    truth = load_truth(written(tmp_path, "c.json", json.dumps(coco())), PHOTOS, labels=LABELS)
    with pytest.raises(TruthError, match=r"cat\.jpg: is 60 x 40 there, but the upright photo is 40 x 60"):
        truth.of(PHOTOS[0], (60, 40), class_id=0, label="tiger cat")


@pytest.mark.parametrize("labels", [None, ["tench", "goldfish"]])
def test_classes_that_the_model_does_not_have_are_said_at_once(tmp_path, labels):
    path = written(tmp_path, "c.json", json.dumps(coco()))
    with pytest.raises(TruthError, match=r"none of its classes \(dog, tiger cat\)"):
        load_truth(path, PHOTOS, labels=labels)


def test_ids_beyond_the_last_class_are_said_at_once(tmp_path):
    path = written(tmp_path, "b.json", json.dumps({"cat.jpg": {"9": [[1, 2, 3, 4]], "5": [[1, 2, 3, 4]]}}))
    for labels in (None, ["a", "b", "c", "d", "e"]):
        with pytest.raises(TruthError, match=r"none of its classes \(5, 9\) is one of the model's 5 classes, 0 to 4"):
            load_truth(path, PHOTOS, labels=labels, class_count=5)
        assert load_truth(path, PHOTOS, labels=labels, class_count=6).of(PHOTOS[0], SIZE, class_id=5) is not None
    assert load_truth(path, PHOTOS, class_count=5, any_class=True).of(PHOTOS[0], SIZE, class_id=1) is not None


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "cat.jpg 1 2 3 4", "neither a folder of masks"),
        ("t.json", "{", "not valid JSON"),
        ("t.json", "[" * 100_000, "nested"),
        ("t.json", "[]", "must hold boxes by photo"),
        ("t.json", '{"fish.jpg": [[0, 0, 1, 1]]}', "names none of the photos; it knows fish.jpg"),
        ("t.json", '{"cat.jpg": 5}', "must be a list of boxes"),
        ("t.json", '{"cat.jpg": "[1,2,3,4]"}', "must be a list of boxes"),
        ("t.json", '{"cat.jpg": [1, 2, 3, 4]}', "a box must be 4 finite numbers, not 1"),
        ("t.json", '{"cat.jpg": [[1, 2, 3]]}', "a box must be 4 finite numbers"),
        ("t.json", '{"cat.jpg": [[1, 2, 3, "x"]]}', "a box must be 4 finite numbers"),
        ("t.json", '{"cat.jpg": [[1, 2, 3, NaN]]}', "a box must be 4 finite numbers"),
        ("t.json", '{"cat.jpg": [[1, 2, 3, true]]}', "a box must be 4 finite numbers"),
        ("t.json", '{"cat.jpg": [[9, 2, 3, 4]]}', "is empty"),
        ("t.json", json.dumps(coco(images=5)), "images must be a list"),
        ("t.json", json.dumps(coco(images=[{"id": 1}])), r"images\[0\] must be an object with id and file_name"),
        ("t.json", json.dumps(coco(images=[{"id": [], "file_name": "x"}])), r"images\[0\] must be"),
        ("t.json", json.dumps(coco(images=[])), "no image with the id 7"),
        ("t.json", json.dumps(coco(categories=[])), "no category with the id 1"),
        ("t.json", json.dumps(coco(annotations=[{"image_id": 7, "segmentation": {}}])), "segmentations are not read"),
        ("t.json", json.dumps(coco(images=[{"id": i, "file_name": "a"} for i in (7, 8)])), "two images"),
        ("t.csv", "", "is missing, or no line follows"),
        ("t.csv", "photo,x0,y0,x1\ncat.jpg,1,2,3\n", "y1 is missing"),
        ("t.csv", "photo,x0,y0,x1,y1\ncat.jpg,1,2,3\n", "line 2: has more or fewer cells"),
        ("t.csv", "photo,x0,y0,x1,y1\ncat.jpg,1,2,3,4,5\n", "line 2: has more or fewer cells"),
        ("t.csv", "photo,x0,y0,x1,y1\ncat.jpg,1,2,3,\n", "line 2: a box must be 4 finite numbers"),
        ("t.csv", 'photo,x0,y0,x1,y1\n"cat.jpg,1,2,3,4', "not valid CSV"),
        ("cat.xml", "<annotation>", "not valid XML"),
        ("cat.xml", "<html></html>", "not a Pascal VOC file"),
        ("cat.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotation></annotation>', "document type or entities"),
        ("cat.xml", "<annotation><object><name>cat</name></object></annotation>", "a box must be 2 finite numbers"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path, name, text, message):
    with pytest.raises(TruthError, match=message):
        load_truth(written(tmp_path, name, text), PHOTOS, labels=LABELS)


def test_a_wrong_place_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(TruthError, match="no such file or folder"):
        load_truth(tmp_path / "nowhere", PHOTOS)
    with pytest.raises(TruthError, match="has neither masks"):
        load_truth(tmp_path, PHOTOS)
    (tmp_path / "t.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TruthError, match="not a text file in UTF-8"):
        load_truth(tmp_path / "t.json", PHOTOS)
    png(tmp_path, "cat.jpg", np.ones(SIZE, np.uint8))
    with pytest.raises(TruthError, match="masks cannot be JPEGs"):
        load_truth(tmp_path, PHOTOS)
    png(tmp_path, "cat.png", np.ones(SIZE, np.uint8))
    written(tmp_path, "cat.xml", VOC)
    with pytest.raises(TruthError, match="both masks and"):
        load_truth(tmp_path, PHOTOS)
    (tmp_path / "cat.xml").unlink()
    png(tmp_path, "cat.bmp", np.ones(SIZE, np.uint8))
    with pytest.raises(TruthError, match="is a mask of the same photo"):
        load_truth(tmp_path, PHOTOS)
