"""The map of an object depends on what its own score sees: not on other objects, saturation, or where borders are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from helpers.detectors import SIZE, one_table, overlap
from helpers.models import images, session
from onnx_xcam import Explainer, instrument
from tools.common.folders import SAMPLE_MODELS
from tools.common.scenes import DISC, TRIANGLE, Scene, Shape, random_shape
from tools.common.scenes import SIZE as SCENE

TINY = SAMPLE_MODELS / "tiny_detector.onnx"
PLAIN = {"scale": "1/255"}
LETTERBOX = {**PLAIN, "resize": "letterbox", "pad_value": 114}
EMIT = ("map", "status", "gradients")
BEHIND = (120, 110, 100)


def disc(x: int, y: int, label: int = DISC, radius: int = 7) -> Shape:
    """An object of a colour that can be told from what is behind it."""
    drawn = random_shape(np.random.default_rng(3), (SCENE, SCENE), label, BEHIND)
    return replace(drawn, x=x, y=y, radius=radius)


def photo(height: int, width: int, *shapes: Shape) -> np.ndarray:
    return Scene(np.full((height, width, 3), BEHIND, np.uint8), shapes).image_rgb


def found(model: onnx.ModelProto, image: np.ndarray, candidate: int, method: str = "auto") -> dict[str, np.ndarray]:
    """What is told of one candidate and its first class, by name."""
    made = session(instrument(model, emit=EMIT, method=method))
    names = [out.name for out in made.get_outputs()]
    feeds = {"image": image, "xcam_object": np.array([[candidate]]), "xcam_class": np.array([[0]])}
    return dict(zip(names, made.run(None, feeds), strict=True))


def test_an_object_outside_the_receptive_field_changes_nothing():
    """Candidate 0 sees pixels 0 to 7: position 0 of the map of stride 4, with a kernel of 3 x 3 behind it."""
    model, image = one_table(), images(1, SIZE)
    first = found(model, image, 0)
    assert first["xcam_status"] == 0
    for x, y in ((8, 8), (12, 0), (0, 11)):
        moved = image.copy()
        moved[:, :, y : y + 4, x : x + 4] += 3
        then = found(model, moved, 0)
        np.testing.assert_allclose(then["xcam_map"], first["xcam_map"], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(then["xcam_scores"], first["xcam_scores"], rtol=1e-6)
        others = [found(model, one, 0, "xgrad-cam")["xcam_map"] for one in (image, moved)]
        assert np.abs(others[0] - others[1]).max() > 1e-3 * others[0].max(), "XGrad-CAM sees it, or this shows nothing"
    seen = image.copy()
    seen[:, :, 2:6, 2:6] += 3
    assert np.abs(found(model, seen, 0)["xcam_map"] - first["xcam_map"]).max() > 1e-3 * first["xcam_map"].max()


def test_a_saturated_probability_has_the_gradient_of_its_logit():
    """The logits are raised by 80, where a sigmoid is 1 in float32 and its slope 0."""
    model, raised = one_table(), one_table()
    for tensor in raised.graph.initializer:
        if tensor.name in ("cb4", "cb8"):
            higher = onnx.numpy_helper.to_array(tensor) + np.float32(80)
            tensor.CopyFrom(onnx.numpy_helper.from_array(higher, tensor.name))
    image = images(1, SIZE)
    for candidate in (3, 17):
        plain, high = (found(one, image, candidate) for one in (model, raised))
        assert high["xcam_probabilities"] == 1 and high["xcam_status"] == 0
        np.testing.assert_allclose(high["xcam_scores"], plain["xcam_scores"] + 80, rtol=1e-5)
        for name in ("xcam_map", "xcam_gradients", "xcam_gradients_1"):
            np.testing.assert_allclose(high[name], plain[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_an_empty_image_beside_others_has_no_object_and_changes_none():
    made = session(instrument(TINY))
    full = [photo(SCENE, SCENE, disc(30, 30)), photo(SCENE, SCENE, disc(60, 64, TRIANGLE))]
    pictures = [full[0], photo(SCENE, SCENE), full[1]]
    batch = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255
    names = ["xcam_objects", "xcam_boxes", "xcam_map", "xcam_probabilities"]
    together = dict(zip(names, made.run(names, {"images": batch}), strict=True))
    assert (together["xcam_objects"][:, 0] >= 0).tolist() == [True, False, True]
    assert not together["xcam_map"][1].any() and not together["xcam_boxes"][1].any()
    for index in range(3):
        alone = dict(zip(names, made.run(names, {"images": batch[index : index + 1]}), strict=True))
        for name in names:
            np.testing.assert_allclose(together[name][index], alone[name][0], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("align", ["centre", "start"])
@pytest.mark.parametrize(("height", "width"), [(96, 192), (144, 60)])
def test_box_and_map_lie_on_the_object_of_the_photo_wherever_borders_are(align, height, width):
    longer = max(height, width) / SCENE
    explainer = Explainer(TINY, preprocess={**LETTERBOX, "align": align})
    for across, down in ((0.3, 0.35), (0.65, 0.7)):
        one = disc(round(across * width), round(down * height), radius=round(8 * longer))
        explanation = explainer.explain(photo(height, width, one))
        assert explanation.status[0, 0] == 0
        box = np.array(one.box, np.float64)
        assert overlap(explanation.boxes[0, 0], box) > 0.6
        y, x = np.unravel_index(explanation.heatmap().argmax(), (height, width))
        assert abs(x - one.x) <= one.radius + 4 * longer
        assert abs(y - one.y) <= one.radius + 4 * longer


def with_preprocessing_inside() -> onnx.ModelProto:
    """The tiny detector for pictures of bytes `[N,H,W,3]`."""
    model = onnx.load(TINY)
    del model.metadata_props[:]
    value = model.graph.input[0]
    tensor = value.type.tensor_type
    tensor.elem_type = onnx.TensorProto.UINT8
    tensor.shape.dim[1].dim_value, tensor.shape.dim[3].dim_value = SCENE, 3
    value.name = "bytes"
    nodes = [
        onnx.helper.make_node("Cast", ["bytes"], ["bytes_float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Div", ["bytes_float", "bytes_most"], ["bytes_scaled"]),
        onnx.helper.make_node("Transpose", ["bytes_scaled"], ["images"], perm=[0, 3, 1, 2]),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(255, np.float32), "bytes_most"))
    return model


def test_bytes_that_the_model_itself_prepares():
    picture = photo(SCENE, SCENE, disc(30, 30), disc(64, 60, TRIANGLE))
    names = ["xcam_objects", "xcam_classes", "xcam_boxes", "xcam_map"]
    objects = np.array([[-1, -2, -3]])
    inside = session(instrument(with_preprocessing_inside()))
    told = inside.run(names, {"bytes": picture[None], "xcam_object": objects})
    floats = picture[None].transpose(0, 3, 1, 2).astype(np.float32) / 255
    expected = session(instrument(TINY)).run(names, {"images": floats, "xcam_object": objects})
    assert (expected[0] >= 0).sum() == 2
    for name, one, other in zip(names, told, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, err_msg=name)
