"""Models with several picture inputs: layers, maps and `inspect` follow the picture that is explained."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

from helpers.models import build
from onnx_xcam import Explainer, check, inspect, instrument
from onnx_xcam.errors import LayerError, PreprocessError, XcamWarning

SIAMESE = """
  cl = Conv<pads=[1,1,1,1]>(left, w)  fl = Relu(cl)  pl = GlobalAveragePool(fl)
  cr = Conv<pads=[1,1,1,1]>(right, w)  fr = Relu(cr)  pr = GlobalAveragePool(fr)
  pair = Concat<axis=1>(pl, pr)  flat = Flatten(pair)  logits = Gemm<transB=1>(flat, fc, fb)
"""
WEIGHTS = {
    name: (np.random.default_rng(0).normal(0, 1, shape) + 0.5).astype(np.float32)
    for name, shape in {"w": (4, 3, 3, 3), "fc": (5, 8), "fb": (5,)}.items()
}
PAIR = "float[N,3,8,8] left, float[N,3,8,8] right"


def siamese(inputs: str = PAIR) -> onnx.ModelProto:
    return build(SIAMESE, WEIGHTS, inputs=inputs)


def photo(seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)


def as_input(image_rgb: np.ndarray) -> np.ndarray:
    return (image_rgb.astype(np.float32) / 255).transpose(2, 0, 1)[None]


def by_hand(model: onnx.ModelProto, image_rgb: np.ndarray, first: bool, class_id: int) -> np.ndarray:
    """The map of one branch: behind a global average the weights are those of the dense layer."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    x = np.pad(as_input(image_rgb)[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    features = np.maximum(np.einsum("chwij,kcij->khw", windows, stored["w"]), 0)
    weights = stored["fc"][class_id, :4] if first else stored["fc"][class_id, 4:]
    return np.maximum(np.einsum("k,khw->hw", weights, features) / features[0].size, 0)


@pytest.mark.parametrize("explained", ["left", "right"])
@pytest.mark.parametrize("inputs", [PAIR, "float[N,3,8,8] right, float[N,3,8,8] left"])
def test_the_map_is_that_of_the_picture_that_is_explained(explained, inputs):
    model = siamese(inputs)
    other = "right" if explained == "left" else "left"
    explainer = Explainer(model, preprocess="unit", providers="cpu", inputs={other: photo(1)})
    assert explainer.layers == ("fl" if explained == "left" else "fr",)
    found = explainer.explain(photo(0), classes=[2])
    np.testing.assert_allclose(found.maps[0, 0], by_hand(model, photo(0), explained == "left", 2), atol=1e-6)


def test_a_second_picture_is_read_and_prepared_like_the_first(tmp_path):
    """From a file of another size, as an array, and as what the model is fed in the end."""
    cv2.imwrite(str(tmp_path / "right.png"), photo(1, 16)[..., ::-1])
    shrunk = Explainer(siamese(), preprocess="unit", providers="cpu", inputs={"right": photo(3)}).prepare(photo(1, 16))
    values = [tmp_path / "right.png", str(tmp_path / "right.png"), photo(1, 16), shrunk.item[None]]
    opened = [Explainer(siamese(), preprocess="unit", providers="cpu", inputs={"right": value}) for value in values]
    for one in opened:
        np.testing.assert_array_equal(one.inputs["right"], shrunk.item[None])
    assert any("'right' is fed" in note and "right.png', 8x8" in note for note in opened[0].notes)


@pytest.mark.parametrize("method", ["xgrad-cam", "score-cam"])
def test_what_a_second_picture_lost_when_it_was_read_is_told(tmp_path, method):
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), photo(1).astype(np.uint16) * 10)
    with pytest.warns(XcamWarning, match=r"deep\.png: its uint16 values go from .* 65535 is taken for white"):
        opened = Explainer(siamese(), preprocess="unit", providers="cpu", method=method, inputs={"right": path})
    assert sum("65535" in warning for warning in opened.warnings) == 1
    assert not any("65535" in note for note in opened.notes)


def test_methods_of_several_runs_take_pictures_too(tmp_path):
    cv2.imwrite(str(tmp_path / "right.png"), photo(1)[..., ::-1])
    maps = [
        Explainer(
            siamese(), method="ablation-cam", preprocess="unit", providers="cpu", inputs={"right": value}, relu=False
        )
        .explain(photo(0), classes=[1])
        .maps
        for value in (tmp_path / "right.png", as_input(photo(1)))
    ]
    assert maps[0].any()
    np.testing.assert_array_equal(*maps)


def test_inspect_lists_both_branches():
    report = inspect(siamese())
    assert [(layer.picture, layer.name) for layer in report.layers if layer.default] == [
        ("left", "fl"),
        ("right", "fr"),
    ]
    assert [layer.name for layer in report.layers if layer.picture == "left"] == ["cl", "fl"]
    assert "Layers of 'right', first to last" in report.text()
    assert {layer.picture for layer in inspect(siamese(), picture="right").layers} == {"right"}
    with pytest.raises(LayerError, match=r"no image input 'rihgt' .did you mean 'right'"):
        inspect(siamese(), picture="rihgt")


def test_an_instrumented_file_says_whose_map_it_gives():
    made = instrument(siamese(), picture="right")
    with pytest.raises(LayerError, match="instrumented to explain the picture 'right', but the picture goes to 'left'"):
        Explainer(made, preprocess="unit", providers="cpu", inputs={"right": photo(1)})
    found = Explainer(made, preprocess="unit", providers="cpu", inputs={"left": photo(1)}).explain(photo(0), [2])
    np.testing.assert_allclose(found.maps[0, 0], by_hand(siamese(), photo(0), False, 2), atol=1e-6)
    chosen = Explainer(instrument(siamese()), preprocess="unit", providers="cpu", inputs={"right": photo(1)})
    assert (
        "Picture: the map is of 'left', not of 'right'; another one is named with --picture (picture=)." in chosen.notes
    )


def test_a_layer_of_the_other_picture_is_refused():
    with pytest.raises(LayerError, match=r"'fr' is made of 'right', not of 'left', the picture that is explained; the"):
        Explainer(siamese(), "fr", preprocess="unit", providers="cpu", inputs={"right": photo(1)})


def test_layers_behind_a_fusion_are_marked():
    """Colour and depth in one trunk: what lies behind holds both."""
    model = build(
        "cl = Conv<pads=[1,1,1,1]>(rgb, w)  fl = Relu(cl)  cd = Conv<pads=[1,1,1,1]>(depth, v)  sum = Add(fl, cd) "
        "a = Relu(sum)  p = GlobalAveragePool(a)  flat = Flatten(p)  logits = Gemm<transB=1>(flat, fc, fb)",
        {"w": (4, 3, 3, 3), "v": (4, 1, 3, 3), "fc": (5, 4), "fb": (5,)},
        inputs="float[N,3,8,8] rgb, float[N,1,8,8] depth",
    )
    report = inspect(model)
    held = {layer.name: layer.holds for layer in report.layers if layer.picture == "rgb"}
    assert held == {"cl": (), "fl": (), "sum": ("depth",), "a": ("depth",)}
    assert any("'a', the last spatial feature map; it holds 'depth' too." in note for note in report.notes)
    assert "holds depth too" in report.text()


def test_two_pictures_in_one_input_need_no_choice():
    model = build(
        "c = Conv<pads=[1,1,1,1]>(pair, w)  a = Relu(c)  p = GlobalAveragePool(a)  flat = Flatten(p) "
        "logits = Gemm<transB=1>(flat, fc, fb)",
        {"w": (4, 6, 3, 3), "fc": (5, 4), "fb": (5,)},
        inputs="float[N,6,8,8] pair",
    )
    assert [(layer.name, layer.picture) for layer in inspect(model).layers] == [("c", None), ("a", None)]


def test_check_takes_pictures(tmp_path):
    cv2.imwrite(str(tmp_path / "right.png"), photo(1)[..., ::-1])
    report = check(siamese(), as_input(photo(0)), inputs={"right": tmp_path / "right.png"})
    assert report.passed
    assert [layer.layer for layer in report.layers] == ["fl"]


def test_a_colour_preprocessing_does_not_fit_a_grey_input(tmp_path):
    model = build(
        SIAMESE.replace("Conv<pads=[1,1,1,1]>(right, w)", "Conv<pads=[1,1,1,1]>(right, v)"),
        {**WEIGHTS, "v": (4, 1, 3, 3)},
        inputs="float[N,3,8,8] left, float[N,1,8,8] right",
    )
    cv2.imwrite(str(tmp_path / "right.png"), photo(1)[..., ::-1])
    told = r"Input 'right': mean has 3 values for 1 channel\(s\) \(GRAY\)\. A prepared array"
    with pytest.raises(PreprocessError, match=told):
        Explainer(model, preprocess="imagenet", providers="cpu", inputs={"right": tmp_path / "right.png"})
