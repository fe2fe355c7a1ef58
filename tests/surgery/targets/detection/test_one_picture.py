"""A detector of one picture `[3,H,W]`, without an axis of images, is explained as one of a batch of one is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers import detector_forms as forms
from helpers.detectors import SIZE
from helpers.models import images
from onnx_xcam import Explainer, contract, instrument
from onnx_xcam.errors import InputError
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.metadata import Metadata
from onnx_xcam.runtime.session import open_session

PLAIN = Preprocess(scale=1 / 255)


@pytest.fixture(scope="module")
def batched() -> onnx.ModelProto:
    return forms.picked_rows("sigmoid", 0.3)


def test_the_maps_are_those_of_a_batch_of_one(batched):
    image = images(1, SIZE)
    found = []
    for model in (batched, forms.of_one_picture(batched)):
        made = open_session(instrument(model, emit=("map", "status", "heatmap")).SerializeToString())
        names = ["xcam_map", "xcam_heatmap", "xcam_status", "xcam_boxes", "xcam_scores", "scores"]
        feeds = {made.inputs[0].name: image, "xcam_object": np.array([[-1, -2, -99]])}
        found.append(made.run(feeds, names))
    assert found[0]["xcam_status"].tolist() == [[0, 0, 4]]
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_file_keeps_its_input_and_states_strides(batched):
    made = instrument(forms.of_one_picture(batched))
    assert [d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim] == [3, SIZE, SIZE]
    metadata = Metadata.from_props({entry.key: entry.value for entry in made.metadata_props}, "the model")
    assert [member.stride for member in metadata.cut] == [(4.0, 4.0), (8.0, 8.0)]


def test_a_photo_is_explained(batched):
    photo = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    one, other = (
        Explainer(model, preprocess=PLAIN).explain(photo) for model in (forms.of_one_picture(batched), batched)
    )
    np.testing.assert_array_equal(one.objects, other.objects)
    np.testing.assert_allclose(one.boxes, other.boxes, rtol=1e-5)
    np.testing.assert_allclose(one.maps[0], other.maps[0], rtol=1e-5, atol=1e-6)


def test_two_photos_go_one_after_the_other(batched):
    photos = [np.full((20, 20, 3), grey, np.uint8) for grey in (30, 200)]
    explainer = Explainer(forms.of_one_picture(batched), preprocess=PLAIN)
    together, each = explainer.explain(photos), [explainer.explain(photo) for photo in photos]
    np.testing.assert_array_equal(together.objects, np.concatenate([one.objects for one in each]))


def test_several_pictures_in_one_run_are_refused(batched):
    session = open_session(forms.of_one_picture(batched).SerializeToString())
    assert session.inputs[0].shape == (1, 3, SIZE, SIZE)
    with pytest.raises(InputError, match=r"one picture at a time, without an axis of images, and not 2\."):
        session.run({"picture": images(2, SIZE)}, ["scores"])


@pytest.mark.parametrize("shape", [(3, 1, 8), (1, 8, 8), ("N", 68, 3), (8, 8, 3), (2, 3, 8, 8)])
def test_other_shapes_are_no_single_picture(shape):
    assert not contract.lacks_images(shape)
    assert contract.picture_sides((3, "H", "W")) == (1, 2)
