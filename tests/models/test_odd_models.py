"""Files that are legal and odd: names of every kind, things that nothing reads, notes that are wrong or missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from helpers.models import C, cnn, images, outputs, run, session, tensors
from onnx_xcam import Explainer, check, inspect, instrument, instrument_file
from onnx_xcam.cli import app
from onnx_xcam.errors import ModelError
from onnx_xcam.jobs.file_names import layer_parts

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def info(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def renamed(model, name_of: Callable[[str], str]):
    graph = model.graph
    for node in graph.node:
        for listed in (node.input, node.output):
            listed[:] = [name and name_of(name) for name in listed]
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = name_of(value.name)
    return model


def listed_weights(model):
    """The weights among the inputs, in front of the image, as files of IR version 3 have them."""
    image = onnx.ValueInfoProto()
    image.CopyFrom(model.graph.input[0])
    del model.graph.input[:]
    model.graph.input.extend(info(tensor.name, tensor.dims) for tensor in model.graph.initializer)
    model.graph.input.append(image)
    return model


# --- names -----------------------------------------------------------------------------------------------------------

NUMBERED: dict[str, str] = {}
NAMES = {
    "spaces": lambda name: f" {name} a  b ",
    "slashes": lambda name: f"/m/{name}/out:0",
    "unicode": lambda name: f"层é{name}🙂",
    "quotes": lambda name: f"'{name}\"`\\",
    "braces": lambda name: "{" + name + "}%s{0}",
    "new lines": lambda name: f"{name}\n\t",
    "5000 letters": lambda name: name + "y" * 5000,
    "numbers": lambda name: NUMBERED.setdefault(name, str(len(NUMBERED))),
    "negative numbers": lambda name: str(-1 - len(NUMBERED.setdefault(name, str(len(NUMBERED))))) + name,
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_every_kind(kind, batch, tmp_path):
    name_of = NAMES[kind]
    model = renamed(cnn("dense"), name_of)
    expected = run(instrument(cnn("dense"), layers="r1"), batch, [[1, -1]])
    found = run(instrument(model, layers=name_of("r1")), batch, [[1, -1]])
    np.testing.assert_array_equal(found[name_of("logits")], expected["logits"])
    np.testing.assert_array_equal(found["xcam_map"], expected["xcam_map"])
    path = tmp_path / "odd.onnx"
    metadata = instrument_file(model, path, layers=name_of("r1"), score=name_of("logits"))
    assert metadata.layers == (name_of("r1"),)
    np.testing.assert_array_equal(run(str(path), batch, [[1, -1]])["xcam_map"], expected["xcam_map"])
    assert name_of("a") in [layer.name for layer in inspect(model).layers]
    assert check(model, layers=name_of("r1"), score=name_of("logits")).passed


@pytest.mark.parametrize("letter", ["y", "层"])
def test_pictures_of_layers_with_long_names(letter, tmp_path):
    model = renamed(cnn("dense"), lambda name: letter * 5000 + name if name in ("r1", "a") else name)
    layers = [letter * 5000 + name for name in ("r1", "a")]
    parts = layer_parts(layers)
    assert len(set(parts)) == 2
    assert all(len(part.encode()) <= 100 for part in parts)
    onnx.save(model, tmp_path / "m.onnx")
    cv2.imwrite(str(tmp_path / "p.png"), np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8))
    words = [
        "explain",
        tmp_path / "m.onnx",
        tmp_path / "p.png",
        "-o",
        tmp_path / "out",
        "--preprocess",
        "unit",
        "--top",
        1,
    ]
    done = CliRunner().invoke(app, [str(word) for word in (*words, "--layer", layers[0], "--layer", layers[1])])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").glob("p.*.png"))) == 2


def test_nodes_without_names_and_with_unusual_ones(batch):
    model = cnn("dense")
    expected = run(instrument(model), batch)
    for name_of in (lambda i: "", lambda i: f" node '{i}'/\n", str):
        for index, node in enumerate(model.graph.node):
            node.name = name_of(index)
        np.testing.assert_array_equal(run(instrument(model), batch)["xcam_map"], expected["xcam_map"])
    assert inspect(model).text()


# --- what nothing reads, and what is listed oddly --------------------------------------------------------------------


def edited(change, **options):
    """The net of the `dense` head after a change."""
    model = cnn("dense", **options)
    change(model.graph)
    return model


CHANGES = {
    "as it is": lambda graph: None,
    "unused weights": lambda graph: graph.initializer.append(numpy_helper.from_array(np.ones((3, 3)), "zzz")),
    "dead nodes": lambda graph: graph.node.extend(
        [helper.make_node("Relu", ["logits"], ["dead"]), helper.make_node("NonZero", ["dead"], ["deader"])]
    ),
    "a dead output": lambda graph: graph.node.append(helper.make_node("Dropout", ["a"], ["dead", ""])),
    "an output that is an input": lambda graph: graph.output.append(graph.input[0]),
    "that first": lambda graph: graph.output.insert(0, graph.input[0]),
    "an output that is a weight": lambda graph: graph.output.append(info("e2", [C])),
    "that one first": lambda graph: graph.output.insert(0, info("e2", [C])),
    "an output twice": lambda graph: graph.output.append(graph.output[0]),
    "the same by another name": lambda graph: (
        graph.node.append(helper.make_node("Identity", ["logits"], ["again"])),
        graph.output.append(info("again", ["N", C])),
    ),
    "an output without a shape": lambda graph: graph.output[0].type.tensor_type.ClearField("shape"),
    "an output without a type": lambda graph: graph.output[0].ClearField("type"),
    "an output of another size": lambda graph: graph.output[0].CopyFrom(info("logits", ["N", 7])),
    "an output of another rank": lambda graph: graph.output[0].CopyFrom(info("logits", ["N", C, 1])),
    "a note of another rank": lambda graph: graph.value_info.append(info("a", ["N", 4, 36])),
    "a note of another size": lambda graph: graph.value_info.append(info("a", ["N", 3, 6, 6])),
    "a note on nothing": lambda graph: graph.value_info.append(info("ghost", [3])),
    "a note twice": lambda graph: graph.value_info.extend([info("a", ["N", 4, 6, 6])] * 2),
    "a note on an output": lambda graph: graph.value_info.append(graph.output[0]),
    "a graph without a name": lambda graph: graph.ClearField("name"),
    "constants as nodes": lambda graph: (
        [graph.node.insert(0, helper.make_node("Constant", [], [t.name], value=t)) for t in graph.initializer],
        graph.ClearField("initializer"),
    ),
}


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("kind", CHANGES)
def test_odd_files_are_explained_as_the_plain_one(kind, n, batch):
    model = edited(CHANGES[kind], n=n)
    before = session(model).run(None, {"image": batch})
    expected = run(instrument(cnn("dense", n=n)), batch, [[1, -1]])
    made = session(instrument(model))
    after = made.run(None, {"image": batch, "xcam_class": np.array([[1, -1]])})
    assert [out.name for out in made.get_outputs()[: len(before)]] == outputs(model)
    for old, new in zip(before, after, strict=False):
        np.testing.assert_array_equal(new, old)
    found = dict(zip([out.name for out in made.get_outputs()], after, strict=True))
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    report = inspect(model)
    assert (report.score, report.classes) == ("logits", C)
    assert check(model).passed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = Explainer(model, preprocess="unit").explain(batch, [1, -1])
    np.testing.assert_array_equal(explanation.maps_of(0), expected["xcam_map"])


@pytest.mark.parametrize("end", ["", ","])
def test_inputs_that_are_left_out(end, batch):
    model = cnn("dense", act=f"r = Relu(c2)  a = Clip(r,{end} top)", weights={"top": ()})
    if not end:
        model = cnn("dense", act="r = Relu(c2)  a = Clip(r,,)")
    else:
        model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(np.float32(1000), "top"))
    found, expected = run(instrument(model), batch, [[1]]), run(instrument(cnn("dense")), batch, [[1]])
    np.testing.assert_array_equal(found["xcam_map"], expected["xcam_map"])


@pytest.mark.parametrize("ir", [3, 4, 8])
def test_weights_in_front_of_the_image(ir, batch):
    model = listed_weights(cnn("dense", ir=ir))
    assert model.graph.input[-1].name == "image"
    expected = run(instrument(cnn("dense")), batch, [[1, -1]])
    made = session(instrument(model))
    names = [out.name for out in made.get_outputs()]
    found = dict(
        zip(names, made.run(names, {"image": batch, "xcam_class": np.array([[1, -1]], np.int64)}), strict=True)
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explanation = Explainer(model, preprocess="unit").explain(batch, [1, -1])
    np.testing.assert_array_equal(explanation.maps_of(0), found["xcam_map"])
    assert check(model).passed


def test_an_input_that_nothing_reads(batch):
    model = edited(lambda graph: graph.input.append(info("extra", ["N", 3])))
    expected = run(instrument(cnn("dense")), batch)["xcam_map"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Explainer(model, preprocess="unit", inputs={"extra": 0}).explain(batch)
    np.testing.assert_array_equal(found.maps_of(0), expected)
    assert check(model).passed


@pytest.mark.parametrize(("field", "said"), [("initializer", "weights"), ("input", "inputs")])
def test_two_of_one_name_are_refused(field, said):
    model = cnn("dense")
    listed = getattr(model.graph, field)
    listed.append(listed[-1])
    for call in (instrument, inspect, check):
        with pytest.raises(ModelError, match=rf"several {said} of one name, '{listed[-1].name}'.*export it again"):
            call(model)


def test_sequences_among_the_outputs(batch):
    """ONNX Runtime gives lists of arrays for them; they are compared part by part."""
    model = cnn("dense", end="states = SequenceConstruct(r1, p1, active)")
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    model.graph.output.insert(0, helper.make_value_info("states", kind))
    made = session(instrument(model))
    found = made.run(["states", "xcam_map"], {"image": batch})
    plain = tensors(cnn("dense"), ["r1", "p1", "active"], batch)
    for part, expected in zip(found[0], plain.values(), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_array_equal(found[1], run(instrument(cnn("dense")), batch)["xcam_map"])
    report = check(model)
    assert report.passed, report.text()
    assert [out.name for out in report.outputs] == ["states", "logits"]


def test_a_size_of_minus_one_is_an_unknown_one():
    """As some exporters write a symbolic batch."""
    model = cnn("gap", n="N")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    x = images(2)
    found, expected = (run(instrument(given), x)["xcam_map"] for given in (model, cnn("gap", n="N")))
    np.testing.assert_array_equal(found, expected)
