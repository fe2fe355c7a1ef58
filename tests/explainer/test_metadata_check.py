"""A file that says of itself what is not so is refused when it is opened."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from helpers.detectors import one_table
from helpers.tiny_models import LABELS, by_hand, tiny
from helpers.token_models import token_model
from onnx_xcam import Explainer, instrument
from onnx_xcam.errors import ModelError, XcamError

BATCH = np.random.default_rng(0).normal(0, 1, (2, 3, 16, 16)).astype(np.float32)
HTML = "<img src=x onerror=alert(1)>"
OBJECTS = instrument(one_table(), emit=("map", "status"))
MADE = instrument(tiny(end="softmax"), emit=("map", "status", "activations"))


def saying(model=MADE, **changes):
    """The model with other metadata; what is None is left out."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    entry = next(entry for entry in model.metadata_props if entry.key == "onnx_xcam")
    entry.value = json.dumps({**json.loads(entry.value), **changes})
    return model


def opened(model):
    return Explainer(model, preprocess="imagenet")


LIES = {
    "version 2": ({"version": 2}, "a later onnx_xcam .version 2.*update"),
    "version x": ({"version": "x"}, "the version 'x'"),
    "version null": ({"version": None}, "the version None"),
    "version true": ({"version": True}, "the version True"),
    "version 0": ({"version": 0}, "the version 0"),
    "a layer that is not there": ({"layers": ["nope"]}, "the layer 'nope', which the model does not have"),
    "a layer of HTML": ({"layers": [HTML]}, "the layer '<img"),
    "an output of ours is no layer": ({"layers": ["xcam_nope"]}, "the layer"),
    "an input as a layer": ({"layers": ["image"]}, "the layer 'image', which no node of the original model makes"),
    "a map as a layer": ({"layers": ["xcam_map"]}, "the layer 'xcam_map', which no node of the original model makes"),
    "too many layers": ({"layers": ["x"] * 100_000}, "100000 layers, more than there are maps"),
    "a layer twice": ({"layers": ["features", "features"]}, "a layer twice"),
    "layers as a text": ({"layers": "features"}, "'layers' is not a list of names"),
    "no layers": ({"layers": []}, "which layers and score"),
    "a layout of tokens": ({"layouts": ["NTC"]}, "the layout NTC for a layer of 4 axes"),
    "no layout": ({"layouts": []}, "0 layouts for 1 layers"),
    "an unknown layout": ({"layouts": ["CHWN"]}, "'layouts' is not"),
    "a grid": ({"grids": [[10**9, 10**9, 5, 5]]}, "the layout NCHW and a grid of tokens"),
    "two grids": ({"grids": [None, None]}, "2 grids for 1 layers"),
    "a method that nobody knows": ({"method": "nope"}, "There is no method 'nope'"),
    "a method of HTML": ({"method": HTML}, "There is no method"),
    "a method of many runs": ({"method": "eigen-cam"}, "cannot be put into a model"),
    "a fusion that nobody knows": ({"fuse": "nope"}, "fused by mean, max, product"),
    "a fusion that is not there": ({"fuse": "mean"}, "do not fit its outputs"),
    "a score that is not there": ({"score": "nope"}, "the score 'nope'"),
    "too few classes": ({"class_count": 2}, "no number for each of 2 classes"),
    "no classes": ({"class_count": 0}, "0 classes"),
    "too many classes": ({"class_count": 10**9}, "1000000000 classes"),
    "an activation of HTML": ({"activation": HTML}, "the activation '<img"),
    "many notes": ({"notes": ["x"] * 100_000}, "more notes than anybody reads"),
    "a long note": ({"notes": [HTML * 100_000]}, "more notes than anybody reads"),
    **{
        f"probabilities {stated}": ({"probabilities": stated}, "probabilities")
        for stated in (
            *(
                ["nope", "none"],
                ["y", "nope"],
                ["xcam_map", "none"],
                ["xcam_status", "none"],
                ["xcam_scores", "softmax"],
            ),
            *([[], {}], "y", ["y"], {"y": 1}, ["y", "none", 1e300, 1e300], ["y", "none", 0, 0], ["y", "none", -1.0, 0]),
            *(["y", "none", True, 0], ["y", "none", "1", 0], ["y", None], 5),
        )
    },
}


@pytest.mark.parametrize("name", LIES)
def test_lies(name):
    changes, said = LIES[name]
    with pytest.raises(ModelError, match=said) as caught:
        opened(saying(**changes))
    assert len(str(caught.value)) < 1000
    for field in changes:
        if field == "probabilities" and changes[field] != 5:
            with pytest.raises(ModelError, match="logits"):
                opened(saying(logits=changes[field]))


@pytest.mark.parametrize("count", [2, 4, 6])
def test_a_number_of_classes_that_the_score_does_not_have(count):
    """Also where no probabilities are stated that would tell."""
    made = instrument(tiny(), emit=("map",))
    with pytest.raises(ModelError, match=f"state {count} classes, but 'y' has 5"):
        opened(saying(made, class_count=count, probabilities=None, logits=None))


CANDIDATES = {"tensor": "xcam/scores", "axis": 1, "form": "a table", "boxes": True, "conf": 0.25, "iou": 0.45}
CUT = [{"layer": "n4", "stride": [4, 4]}, {"layer": "n8", "stride": [8, 8]}]
LIES_OF_OBJECTS = {
    "a task that nobody knows": ({"task": "nope"}, "the task 'nope', which is none of classification, detection"),
    "a task without objects": ({"task": "classification"}, "the task classification, but an output tells objects"),
    "a task of another kind": ({"task": 5}, "'task' is not a name"),
    **{
        f"candidates with {field} {value!r}": ({"candidates": {**CANDIDATES, field: value}}, "'candidates' is not an")
        for field, values in {
            "tensor": (None, 5),
            "axis": (-1, "1", 1.0, True),
            "form": (None, 5),
            "boxes": (None, 1),
            "conf": (None, -0.1, 1.5, 1e400, True, "0.5"),
            "iou": (-0.1, 1.5, 1e400, False, "0.5"),
        }.items()
        for value in values
    },
    "candidates of another kind": ({"candidates": [1]}, "'candidates' is not an object of tensor"),
    "a cut of another kind": ({"cut": {}}, "'cut' is not a list"),
    "a cut of fewer layers": ({"cut": CUT[:1]}, "a cut of other layers"),
    "a cut of other layers": ({"cut": [CUT[1], CUT[0]]}, "a cut of other layers"),
    **{
        f"a stride {stride}": ({"cut": [{"layer": "n4", "stride": stride}, CUT[1]]}, "'cut' is not a list")
        for stride in ([4], [0, 4], [-4, 4], [1e400, 4], ["4", 4], 4, {})
    },
}


@pytest.mark.parametrize("name", LIES_OF_OBJECTS)
def test_lies_about_objects(name):
    changes, said = LIES_OF_OBJECTS[name]
    with pytest.raises(ModelError, match=said):
        opened(saying(OBJECTS, **changes))


@pytest.mark.parametrize("changes", [{"task": "detection"}, {"candidates": CANDIDATES}])
def test_a_classifier_that_says_it_has_objects(changes):
    with pytest.raises(ModelError, match="no output tells objects"):
        opened(saying(**changes, **({"task": "classification"} if "candidates" in changes else {})))


def test_what_is_so_of_objects_is_accepted():
    for changes in ({}, {"candidates": CANDIDATES, "cut": CUT}, {"task": None}, {"candidates": None}):
        assert opened(saying(OBJECTS, **changes))


def test_what_is_so_is_accepted():
    expected = opened(MADE).explain(BATCH)
    for changes in (
        {"later": {"field": 1}},
        {"notes": [f"<b>{n}</b>" for n in range(1000)]},
        {"class_count": None},
        {"activation": "Sparsemax"},
        {"labels": LABELS},
        {"method": "Grad-CAM++"},
        {"probabilities": None},
        {"probabilities": ["y", "none", 1.0, 0.0]},
    ):
        found = opened(saying(**changes)).explain(BATCH)
        np.testing.assert_array_equal(found.maps, expected.maps)
    model = saying()
    entry = next(entry for entry in model.metadata_props if entry.key == "onnx_xcam")
    entry.value = json.dumps({name: json.loads(entry.value)[name] for name in ("layers", "score")})
    np.testing.assert_array_equal(opened(model).explain(BATCH).maps, expected.maps)
    opened(by_hand()).explain(BATCH)


def test_labels_that_are_null_are_none():
    assert opened(saying(labels=[None] * 5)).explain(BATCH).labels == [[None], [None]]


GRIDS = [[2, 3, 1, 0], [None, None, 1, 0], [2, 3, 0, 1]]
NO_GRIDS = [[3, 2, 1, 0], [2, 3, 0, 0], [2, 3, -1, 2], [0, 3, 1, 0], [2, 3, None, 0], [10**9, 10**9, 5, 5], None]


@pytest.mark.parametrize(("grid", "fits"), [*((grid, True) for grid in GRIDS), *((grid, False) for grid in NO_GRIDS)])
def test_grids_of_tokens(grid, fits):
    made = instrument(token_model("class token"), emit=("map", "activations"))
    shape = json.loads(next(e.value for e in made.metadata_props if e.key == "onnx_xcam"))["grids"][0]
    assert shape == [2, 3, 1, 0]
    try:
        opened(saying(made, grids=[grid]))
    except XcamError as error:
        assert isinstance(error, ModelError) and "grid" in str(error) and not fits
    else:
        assert fits


def test_probabilities_and_signs_that_only_a_run_shows():
    logits = instrument(tiny(), emit=("map",))
    with pytest.raises(ModelError, match=r"'y' is said to tell probabilities, but it told"):
        opened(saying(logits, probabilities=["y", "none"], logits=None)).explain(BATCH * 50)
    signed = instrument(tiny(), emit=("map",), relu=False)
    with pytest.raises(ModelError, match="gives signed maps, but its metadata say that it does not"):
        opened(saying(signed, relu=True)).explain(BATCH, top=5)


@pytest.mark.parametrize("field", ["layers", "layouts", "grids"])
def test_long_lies(field):
    item = {"layers": "x", "layouts": "NCHW", "grids": [1, 2, 3, 4]}[field]
    with pytest.raises(ModelError) as caught:
        opened(saying(**{field: [item] * 300_000}))
    assert len(str(caught.value)) < 1000
