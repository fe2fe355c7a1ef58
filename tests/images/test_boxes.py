"""Boxes are drawn around the objects, and their labels stand within the picture and not on each other."""

import importlib

import numpy as np
import pytest

from onnx_xcam.images import DrawnBox, boxes, draw_boxes, fonts, united
from onnx_xcam.images.panel import Cell, Row, panel

NAMES = ["face", "traffic light", "a name that is far too long for any picture of this size, and goes on", "x"]


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def many(count: int, height: int, width: int, seed: int) -> list[DrawnBox]:
    """Boxes of all sizes, some beyond the picture."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.2, 1.1, (count, 2)) * (width, height)
    sides = rng.uniform(0.0, 0.5, (count, 2)) * (width, height)
    rows = np.concatenate([corners, corners + sides], 1).tolist()
    return [DrawnBox(tuple(row), NAMES[n % 4], n % 13, 0.5, n + 1) for n, row in enumerate(rows)]


def layout(found: list[DrawnBox], height: int, width: int, chosen: int | None = None):
    drawn = [boxes._drawn(one, (height, width), 1) for one in found]
    return boxes._layout(found, drawn, chosen, (height, width)), drawn


def test_a_line_runs_around_the_box_and_leaves_what_is_in_it():
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    before = image.copy()
    drawn = draw_boxes(image, [DrawnBox((100.2, 80.4, 200.4, 160.3), "cat", 2)])
    np.testing.assert_array_equal(image, before)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(drawn[81:160, 101:200], image[81:160, 101:200])
    colour = boxes.COLOURS[2]
    # From the box outwards: a dark edge, the line, a dark edge, the picture.
    assert (drawn[79, 150:200] == np.rint(image[79, 150:200] * (1 - boxes._EDGE_OPACITY))).all()
    assert (drawn[161, 120:180] == colour).all()
    assert (drawn[100:150, 98] == colour).all()
    np.testing.assert_array_equal(drawn[170:], image[170:])
    np.testing.assert_array_equal(drawn[:, 220:], image[:, 220:])


def test_the_chosen_box_alone_is_bold_and_has_a_label():
    found = [DrawnBox((50, 200, 120, 260), "dog", 1, 0.7, 1), DrawnBox((200, 200, 350, 380), "cat", 0, 0.9, 2)]
    image = grey(640, 640)
    drawn = draw_boxes(image, found, chosen=1)
    white = (drawn == 255).all(2)
    assert white[200:380, 199 - 4 : 199].all()  # twice as thick as the line of a picture of this size, 2 pixels
    assert (drawn[230, 49] == np.rint(0.25 * 90 + 0.75 * np.array(boxes.COLOURS[1]))).all()
    np.testing.assert_array_equal(drawn[:198, 40:130], image[:198, 40:130])  # no label above the other one
    assert len(layout(found, 640, 640, chosen=1)[0]) == 1
    assert not white[200:260].all(1).any()
    all_alike = draw_boxes(image, found)
    assert not (all_alike == 255).all(2).any()
    assert len(layout(found, 640, 640)[0]) == 2


@pytest.mark.parametrize(("height", "width"), [(300, 500), (1200, 900), (64, 300), (320, 320)])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_labels_stand_within_the_picture_and_on_no_other(height, width, count):
    for seed in range(6):
        placed, _ = layout(many(count, height, width, seed), height, width)
        assert len(placed) == count
        for n, (label, (x1, y1, x2, y2), _) in enumerate(placed):
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert (x2 - x1, y2 - y1) == label.size
            left, top, right, bottom = label.font.getbbox(label.text, anchor="mm")
            assert right - left <= label.size[0]
            assert bottom - top <= label.size[1]
            if len(label.text) > 2:  # all of the label, not its number alone
                assert not any(boxes._shared((x1, y1, x2, y2), other) for _, other, _ in placed[:n])


def test_a_crowd_has_numbers_where_there_is_no_room():
    one = (100.0, 100.0, 130.0, 130.0)
    placed, _ = layout([DrawnBox(one, "face", 0, 0.5, n + 1) for n in range(20)], 300, 300)
    texts = [label.text for label, _, _ in placed]
    assert texts[0] == "1  face  0.50"
    assert texts[-1] == "20"


def test_a_long_name_keeps_its_number_and_probability():
    (label, *_), *_ = layout([DrawnBox((10, 40, 90, 90), NAMES[2], 0, 0.25, 7)], 200, 300)[0]
    assert label.text.startswith("7  a name that")
    assert label.text.endswith("…  0.25")


def test_parts_that_are_not_known_are_left_out():
    texts = [layout([one], 300, 300)[0] for one in (DrawnBox((9, 40, 90, 90), "cat"), DrawnBox(None, "cat", p=np.nan))]
    assert [placed[0][0].text for placed in texts] == ["cat", "cat"]


@pytest.mark.parametrize("box", [None, (np.nan, 1, 5, 5), (0, 0, np.inf, 5)])
def test_an_object_without_a_known_box_has_a_label(box):
    found = [DrawnBox(box, "cat", 0, 0.9, 1), DrawnBox(box, "dog", 1, 0.8, 2)]
    placed, drawn = layout(found, 300, 300)
    assert drawn == [None, None]
    (_, first, _), (_, second, _) = placed
    assert first[:2] == (0, 0)
    assert second[:2] == (0, first[3])
    assert (draw_boxes(grey(300, 300), found)[first[3] + 1] != 90).any()


def test_boxes_beyond_the_picture_and_without_an_area():
    image = grey(300, 300)
    for box in [(-1e30, -5, 1e30, 400), (400, 400, 500, 500), (10, 10, 10, 10), (50, 60, 20, 30)]:
        drawn = draw_boxes(image, [DrawnBox(box, "cat")])
        assert drawn.shape == image.shape
        assert (drawn != image).any()


def test_tiny_pictures_are_enlarged():
    """Each pixel becomes a square; boxes are in pixels of the small picture."""
    image = np.arange(64 * 80 * 3, dtype=np.uint8).reshape(64, 80, 3)
    drawn = draw_boxes(image, [DrawnBox((20, 30, 40, 50), "cat", 0, 0.5, 1)])
    assert drawn.shape == (320, 400, 3)
    np.testing.assert_array_equal(drawn[150:250, 100:200], image[30:50, 20:40].repeat(5, 0).repeat(5, 1))
    assert (drawn[252, 110:190] != image[50, 22:38].repeat(5, 0)).any()
    assert draw_boxes(grey(3, 900), [DrawnBox((0, 0, 9, 3), "cat")]).shape == (3, 900, 3)
    assert draw_boxes(grey(1, 1), [DrawnBox((0, 0, 1, 1), "cat", 0, 0.5, 1)]).shape == (320, 320, 3)


def test_nothing_to_draw_is_a_copy():
    image = grey(300, 200)
    drawn = draw_boxes(image, [])
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)
    with pytest.raises(IndexError, match="no box 0 of 0"):
        draw_boxes(image, [], chosen=0)


def without_installed_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_others", lambda: ())


def test_names_that_no_font_can_write_are_the_classs_number(monkeypatch):
    without_installed_fonts(monkeypatch)
    pictures = [draw_boxes(grey(300, 300), [DrawnBox((9, 40, 90, 90), name, 15)]) for name in ("猫", "class 15")]
    np.testing.assert_array_equal(*pictures)


def test_accents_are_left_out_where_no_font_has_them(monkeypatch):
    without_installed_fonts(monkeypatch)
    assert fonts.written("Zürich — “É”", 14)[1] == 'Zurich - "E"'


def test_installed_fonts_write_what_pillows_own_does_not():
    if not fonts._others():
        pytest.skip("no font is installed besides Pillow's own")
    name = next((text for text in ("Bär", "Жук", "猫") if fonts.written(text, 14)), None)
    assert name is not None
    font, text = fonts.written(name, 14)
    assert text == name
    assert font.getname() != fonts.load(None, 14).getname()
    assert fonts.written("cat", 14)[0].getname() == fonts.load(None, 14).getname()


def test_every_installed_font_is_looked_for_once(monkeypatch):
    """Pillow walks through all folders of fonts for each name."""
    looked = []
    truetype = importlib.import_module("PIL.ImageFont").truetype
    monkeypatch.setattr(
        "PIL.ImageFont.truetype", lambda *args, **named: looked.append(args[0]) or truetype(*args, **named)
    )
    fonts._others.cache_clear()
    fonts.load.cache_clear()
    for text in ("cat", "a traffic light  0.91"):
        assert fonts.written(text, 12) is not None
        fonts.font_of(text, 12)
    assert not [name for name in looked if isinstance(name, str)]
    for text in ("Жук", "猫", "Жук", "猫"):
        fonts.written(text, 12)
    assert len([name for name in looked if name == "DejaVuSans.ttf"]) <= 2  # to look for it, and to write with it
    fonts.load.cache_clear()


def test_panels_write_names_in_a_font_that_knows_them(monkeypatch):
    """A comparison of a class "Bär" showed a hollow box for the second letter."""
    if not fonts.written("Bär", 14) or fonts.written("Bär", 14)[1] != "Bär":
        pytest.skip("no font is installed that knows German letters")
    rows = [Row("Bär", [Cell(grey(50, 50), ("Bär",))])]
    with_fonts = panel("Bär", ["Bär"], rows)
    without_installed_fonts(monkeypatch)
    assert (with_fonts != panel("Bär", ["Bär"], rows)).any()


def test_heat_maps_of_many_objects_are_united_by_their_largest_value():
    heats = [np.array([[0.0, 0.5, np.nan]]), np.array([[0.25, 0.1, 0.5]], np.float32)]
    got = united(iter(heats))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array([[0.25, 0.5, 0.5]], np.float32))
    with pytest.raises(ValueError, match="no heat map"):
        united([])
