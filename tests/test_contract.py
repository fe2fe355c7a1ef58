"""The instrumented model's interface, seen from ONNX Runtime."""

from __future__ import annotations

import copy
import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_xcam
from helpers.models import C, build, cnn, dense_gradients, images, outputs, props, run, session, tensors, weight
from onnx_xcam import contract, instrument, instrument_file
from onnx_xcam.errors import ClassError, LayerError, ModelError, OutputError, XcamError
from onnx_xcam.surgery import instrument_bytes

HEADS = ["gap", "dense"]
ALL = contract.EMITS


def gradients_of(model, head, image, classes):
    """The gradient with respect to `a` that the head's own weights give, float64 [N,K,4,6,6]."""
    if head == "dense":
        return dense_gradients(model, image, classes)
    rows = weight(model, "fc").astype(np.float64)[classes] / 36
    return np.broadcast_to(rows[..., None, None], (*rows.shape, 6, 6))


def assert_explains(found, model, head, image, classes):
    """Classes, scores, activations and gradients are those of these classes."""
    logits, a = tensors(model, ["logits", "a"], image).values()
    np.testing.assert_array_equal(found["xcam_classes"], classes)
    np.testing.assert_array_equal(found["xcam_scores"], np.take_along_axis(logits, classes, 1))
    np.testing.assert_array_equal(found["xcam_activations"], a)
    expected = gradients_of(model, head, image, classes)
    np.testing.assert_allclose(found["xcam_gradients"], expected, rtol=1e-5, atol=1e-7)
    assert found["xcam_classes"].dtype == np.int64
    for name in ("xcam_scores", "xcam_map", "xcam_activations", "xcam_gradients"):
        assert found[name].dtype == np.float32


# --- which classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("n", [1, 3, "N"])
def test_default_is_each_images_own_top_class(head, n):
    model = cnn(head, n=n, seed=4 if head == "gap" else 7)
    image = 3 * images(3 if n == "N" else n, seed=5)
    found = run(instrument(model), image)
    logits = tensors(model, ["logits"], image)["logits"]
    if n != 1:
        assert len(set(logits.argmax(1))) > 1, "the images must not agree, or the test shows nothing"
    assert_explains(found, model, head, image, logits.argmax(1)[:, None])


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "asked",
    [[[2]], [[2, 0, 4]], [[2], [0], [4]], [[1, 1], [2, 3], [4, 0]], [[3, 3]]],
    ids=["one for all", "several for all", "each its own", "several each", "the same twice"],
)
def test_given_classes(head, asked):
    model, image = cnn(head), images(3)
    asked = np.array(asked)
    found = run(instrument(model), image, asked)
    assert_explains(found, model, head, image, np.broadcast_to(asked, (3, asked.shape[1])))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "asked", [[[-1, -2, -3, -4, -5]], [[-5, 2, -1]], [[-2], [-1], [1]]], ids=["all", "mixed", "per image"]
)
def test_negative_classes_count_from_the_best(head, asked):
    model, image = cnn(head, seed=4 if head == "gap" else 7), 3 * images(3, seed=5)
    found = run(instrument(model), image, asked)
    best = np.argsort(-tensors(model, ["logits"], image)["logits"], 1)
    wanted = np.broadcast_to(asked, (3, len(asked[0])))
    classes = np.where(wanted < 0, np.take_along_axis(best, np.maximum(-1 - wanted, 0), 1), wanted)
    assert_explains(found, model, head, image, classes)


def test_one_run_gives_the_same_as_one_by_one():
    model, image = instrument(cnn("dense"), emit=ALL), images(2)
    together = run(model, image, [[0, -1, 3]])
    for n in range(2):
        for k, class_id in enumerate([0, -1, 3]):
            alone = run(model, image[n : n + 1], [[class_id]])
            for name in [name for name in together if name.startswith("xcam") and name != "xcam_activations"]:
                np.testing.assert_allclose(together[name][n, k], alone[name][0, 0], rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_class_out_of_range_fails_in_the_run():
    for asked in ([[C]], [[-C - 1]]):
        with pytest.raises(Exception, match="ONNXRuntimeError"):
            run(instrument(cnn()), images(1), asked)


# --- how the classes are offered --------------------------------------------------------------------------------------


def test_optional_is_a_drop_in():
    model = cnn()
    made = session(instrument(model))
    assert [i.name for i in made.get_inputs()] == ["image"]
    assert [i.name for i in made.get_overridable_initializers()] == ["xcam_class"]
    info = made.get_overridable_initializers()[0]
    assert (info.type, len(info.shape)) == ("tensor(int64)", 2)
    np.testing.assert_array_equal(weight(instrument(model), "xcam_class"), [[-1]])
    assert weight(instrument(model), "xcam_class").dtype == np.int64


def test_the_class_inputs_dimensions_are_symbolic():
    for how in ("optional", "required"):
        shape = instrument(cnn(), class_input=how).graph.input[-1].type.tensor_type.shape
        assert all(dim.dim_param and not dim.HasField("dim_value") for dim in shape.dim)
        assert len({dim.dim_param for dim in shape.dim}) == 2


def test_required_is_a_plain_input():
    model, image = cnn("dense"), images(2)
    made = instrument(model, class_input="required")
    assert [i.name for i in session(made).get_inputs()] == ["image", "xcam_class"]
    assert not session(made).get_overridable_initializers()
    with pytest.raises(ValueError, match="xcam_class"):
        run(made, image)
    assert_explains(run(made, image, [[-1, 3]]), *(model, "dense", image), _top_and(model, image, 3))


def _top_and(model, image, other):
    top = tensors(model, ["logits"], image)["logits"].argmax(1)
    return np.stack([top, np.full(len(top), other)], 1)


@pytest.mark.parametrize("n", [2, "N"])
def test_fixed_has_no_input(n):
    model, image = cnn("dense", n=n), images(2)
    made = instrument(model, class_input="fixed", classes=[-1, 3])
    assert [i.name for i in made.graph.input] == ["image"]
    assert_explains(run(made, image), model, "dense", image, _top_and(model, image, 3))
    plain = instrument(model, class_input="fixed", classes=(np.int64(3), 0))
    assert_explains(run(plain, image), model, "dense", image, np.array([[3, 0]] * 2))
    assert "TopK" not in {node.op_type for node in plain.graph.node}, "fixed classes need no ranking"
    last = instrument(model, class_input="fixed", classes=[-C])
    lowest = tensors(model, ["logits"], image)["logits"].argmin(1)
    assert_explains(run(last, image), model, "dense", image, lowest[:, None])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"class_input": "fixed"}, ClassError, "needs the classes"),
        ({"class_input": "fixed", "classes": []}, ClassError, "needs the classes"),
        ({"class_input": "fixed", "classes": [5]}, ClassError, "Class 5 does not exist.*0 to 4"),
        ({"class_input": "fixed", "classes": [-6]}, ClassError, "Class -6 does not exist"),
        ({"class_input": "fixed", "classes": [1.5]}, ClassError, "integer, not 1.5"),
        ({"class_input": "fixed", "classes": ["cat"]}, ClassError, "integer, not 'cat'"),
        ({"class_input": "fixed", "classes": [True]}, ClassError, "integer, not True"),
        ({"class_input": "fixed", "classes": [[1, 2]]}, ClassError, "integer, not"),
        ({"class_input": "fixed", "classes": 3}, ClassError, "list"),
        ({"classes": [1]}, ClassError, "class_input"),
        ({"class_input": "required", "classes": [1]}, ClassError, "class_input"),
        ({"class_input": "sometimes"}, XcamError, "optional, required, fixed.*'sometimes'"),
        ({"emit": ["maps"]}, XcamError, "maps"),
        ({"emit": "map"}, XcamError, "list"),
        ({"emit": None}, XcamError, "list"),
        ({"method": "guesswork"}, XcamError, "no method 'guesswork'.*xgrad-cam"),
        ({"layers": []}, LayerError, "auto"),
        ({"layers": 7}, LayerError, "name"),
        ({"layers": [7]}, LayerError, "7"),
        ({"layers": ""}, LayerError, "No layer was named"),
    ],
)
def test_wrong_arguments(options, error, said):
    with pytest.raises(error, match=f"(?s){said}"):
        instrument(cnn(), **options)


# --- what comes out --------------------------------------------------------------------------------------------------

SHAPES = {
    "map": ("float32", (2, 3, 6, 6)),
    "activations": ("float32", (2, 4, 6, 6)),
    "gradients": ("float32", (2, 3, 4, 6, 6)),
    "heatmap": ("float32", (2, 3, 12, 12)),
    "status": ("int64", (2, 3)),
}


@pytest.mark.parametrize("head", HEADS)
def test_each_output_alone_is_the_same_as_together(head):
    model, image = cnn(head), images(2)
    asked = [[0, -1, 3]]
    together = run(instrument(model, emit=ALL), image, asked)
    assert [n for n in together if n.startswith("xcam")] == [
        "xcam_classes",
        "xcam_scores",
        *(f"xcam_{kind}" for kind in ALL),
    ]
    for kind in ALL:
        alone = run(instrument(model, emit=[kind]), image, asked)
        assert list(alone) == ["logits", "xcam_classes", "xcam_scores", f"xcam_{kind}"]
        np.testing.assert_allclose(alone[f"xcam_{kind}"], together[f"xcam_{kind}"], rtol=1e-5, atol=1e-7)
        assert (str(alone[f"xcam_{kind}"].dtype), alone[f"xcam_{kind}"].shape) == SHAPES[kind]


def test_nothing_emitted_is_classes_and_scores():
    made = instrument(cnn(), emit=())
    assert outputs(made) == ["logits", "xcam_classes", "xcam_scores"]
    assert "Gemm" not in {n.op_type for n in made.graph.node if n.name.startswith("xcam")}


def test_outputs_come_in_the_order_asked_and_once():
    made = instrument(cnn(), emit=["status", "map", "status"])
    assert outputs(made)[1:] == ["xcam_classes", "xcam_scores", "xcam_status", "xcam_map"]


def test_several_layers_are_numbered():
    model, image = cnn("dense"), images(2)
    names = ["a", "r1", "c2"]
    found = run(instrument(model, layers=names, emit=ALL), image, [[1, -1]])
    for index, name in enumerate(names):
        alone = run(instrument(model, layers=name, emit=ALL), image, [[1, -1]])
        for kind in ALL:
            expected, end = alone[f"xcam_{kind}"], f"_{index}" if index else ""
            np.testing.assert_allclose(found[f"xcam_{kind}{end}"], expected, rtol=1e-5, atol=1e-6)
    assert json.loads(dict(props(instrument(model, layers=names)))["onnx_xcam"])["layers"] == names
    assert found["xcam_map_1"].shape == (2, 2, 12, 12)


@pytest.mark.parametrize("n", [1, 2, "N"])
def test_declared_shapes_and_types_hold(n):
    made = instrument(cnn("dense", n=n), emit=ALL)
    onnx.checker.check_model(made, full_check=True)
    found = run(made, images(1 if n == 1 else 2), [[1, 2, 3]])
    for info in made.graph.output:
        array, declared = found[info.name], info.type.tensor_type
        assert onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type) == array.dtype
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in declared.shape.dim]
        assert len(dims) == array.ndim
        assert all(dim is None or dim == size for dim, size in zip(dims, array.shape, strict=True)), info.name


def test_original_outputs_stay_first_and_bit_equal(batch):
    model = cnn(end="prob = Softmax<axis=1>(logits)  top = ArgMax<axis=1>(logits)")
    more = [
        onnx.helper.make_tensor_value_info("prob", 1, ["N", C]),
        onnx.helper.make_tensor_value_info("r1", 1, ["N", 3, 12, 12]),
        onnx.helper.make_tensor_value_info("top", 7, ["N", 1]),
    ]
    model.graph.output.extend(more)
    before, made = run(model, batch), instrument(model, emit=ALL)
    after = run(made, batch)
    assert list(after)[:4] == list(before) == ["logits", "prob", "r1", "top"]
    assert list(made.graph.output)[:4] == list(model.graph.output)
    assert list(made.graph.input)[:1] == list(model.graph.input)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_original_with_several_inputs_and_an_output_that_is_the_layer(batch):
    body = (
        "c = Conv<pads=[1,1,1,1]>(image, w)  a = Relu(c)  s = Mul(a, gain)  m = ReduceMean<axes=[2,3], keepdims=0>(s)"
    )
    model = build(
        body + " logits = Gemm(m, fc)",
        {"w": (4, 3, 3, 3), "fc": (4, C)},
        inputs="float[N,3,12,12] image, float[N,4,1,1] gain",
        outputs=f"float[N,{C}] logits, float[N,4,12,12] a",
    )
    feeds = {"image": batch, "gain": np.random.default_rng(0).normal(size=(2, 4, 1, 1)).astype(np.float32)}
    before = session(model).run(None, feeds)
    made = session(instrument(model, layers="a"))
    assert [i.name for i in made.get_inputs()] == ["image", "gain"]
    after = made.run(None, feeds)
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    names = [out.name for out in made.get_outputs()]
    classes = before[0].argmax(1)
    expected = weight(model, "fc").T[classes][:, None, :, None, None] * feeds["gain"][:, None] / 144
    found = after[names.index("xcam_gradients")]
    np.testing.assert_allclose(found, np.broadcast_to(expected, (2, 1, 4, 12, 12)), rtol=1e-5, atol=1e-8)


def test_an_input_that_is_also_an_output_stays(batch):
    model = cnn()
    model.graph.output.insert(0, model.graph.input[0])
    found = run(instrument(model), batch)
    np.testing.assert_array_equal(found["image"], batch)
    np.testing.assert_array_equal(found["logits"], run(model, batch)["logits"])


# --- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_says_what_was_done():
    made = instrument(cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y"), layers=["a", "r1"])
    said = json.loads(dict(props(made))["onnx_xcam"])
    expected = {
        "version": 1,
        "layers": ["a", "r1"],
        "layouts": ["NCHW", "NCHW"],
        "method": "xgrad-cam",
        "score": "logits",
        "relu": True,
        "class_count": C,
        "activation": "Softmax",
    }
    assert {key: said[key] for key in expected} == expected
    assert any("Softmax" in note and "logits" in note for note in said["notes"])
    assert session(made).get_modelmeta().custom_metadata_map["onnx_xcam"] == dict(props(made))["onnx_xcam"]


def test_existing_metadata_survive():
    model = cnn()
    model.producer_name, model.doc_string, model.domain = "me", "text", "a.b"
    model.metadata_props.add(key="names", value="{0: 'cat'}")
    model.graph.node[0].metadata_props.add(key="k", value="v")
    made = instrument(model)
    assert props(made)[0] == ("names", "{0: 'cat'}")
    assert (made.producer_name, made.doc_string, made.domain) == ("me", "text", "a.b")
    assert list(made.graph.node)[: len(model.graph.node)] == list(model.graph.node)


HINTS = {"preprocess": {"mean": [0.5], "size": [12, 12]}, "labels": ["ä", "b", "c", "d", "e"]}


@pytest.mark.parametrize("how", ["own key", "two keys"])
@pytest.mark.parametrize("source", ["proto", "bytes", "path"])
def test_the_authors_hints_are_kept_in_exactly_one_entry(how, source, tmp_path):
    model = cnn()
    model.metadata_props.add(key="before", value="1")
    if how == "own key":
        model.metadata_props.add(key="onnx_xcam", value=json.dumps(HINTS))
    else:
        for key, value in HINTS.items():
            model.metadata_props.add(key=f"onnx_xcam.{key}", value=json.dumps(value))
    model.metadata_props.add(key="after", value="2")
    content = model.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    given = {"proto": model, "bytes": content, "path": path}[source]
    out = tmp_path / "out.onnx"
    instrument_file(given, out)
    for made in (instrument(given), onnx.load_from_string(instrument_bytes(given)), onnx.load(out)):
        keys = [key for key, _ in props(made)]
        assert keys.count("onnx_xcam") == 1
        assert {"before", "after"} <= set(keys)
        said = json.loads(dict(props(made))["onnx_xcam"])
        assert {key: said[key] for key in HINTS} == HINTS
        assert said["version"] == 1
        np.testing.assert_array_equal(run(made, images(1))["logits"], run(model, images(1))["logits"])
    assert model.SerializeToString() == content
    assert path.read_bytes() == content


@pytest.mark.parametrize("text", ["{", "[]", '{"labels": {"0": "cat"}}', '{"preprocess": [1]}', '"x"'])
def test_hints_in_a_wrong_form_are_refused(text):
    model = cnn()
    model.metadata_props.add(key="onnx_xcam", value=text)
    with pytest.raises(ModelError, match="metadata"):
        instrument(model)


# --- the original stays ----------------------------------------------------------------------------------------------


def test_original_bytes_are_a_prefix(tmp_path):
    model = cnn("dense")
    model.metadata_props.add(key="names", value="x")
    content = model.SerializeToString()
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    path.write_bytes(content)
    results = {source: instrument_bytes(given) for source, given in _three(path, content, model).items()}
    for source, given in _three(path, content, model).items():
        instrument_file(given, out)
        assert out.read_bytes() == results[source]
        assert results[source].startswith(content)
        assert len(results[source]) > len(content)
        assert instrument(given).SerializeToString() == onnx.load_from_string(results[source]).SerializeToString()
    assert len(set(results.values())) == 1, "the surgery is deterministic, whatever the source"
    assert path.read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.onnx"]


def _three(path, content, model):
    return {"path": path, "str": str(path), "bytes": content, "proto": model}


@pytest.mark.parametrize("model", [cnn("dense"), cnn(opset=9, ir=3)], ids=["appended", "raised"])
def test_the_callers_proto_is_untouched(model):
    before = copy.deepcopy(model)
    content = model.SerializeToString()
    instrument(model, layers=["a", "r1"], emit=ALL)
    onnx_xcam.inspect(model)
    onnx_xcam.check(model)
    assert model == before
    assert model.SerializeToString() == content


@pytest.mark.parametrize("source", ["path", "bytes", "proto"])
def test_the_result_must_not_replace_its_original(source, tmp_path):
    model = cnn()
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    before = path.read_bytes()
    link = tmp_path / "link.onnx"
    link.hardlink_to(path)
    if source == "path":
        for out in (path, str(path), link, tmp_path / "." / "m.onnx"):
            with pytest.raises(OutputError, match="original"):
                instrument_file(path, out)
        assert path.read_bytes() == before
    else:
        out = tmp_path / "o.onnx"
        out.write_text("old")
        instrument_file(before if source == "bytes" else model, out)
        assert out.read_bytes().startswith(before)


def test_a_failed_surgery_leaves_no_file(tmp_path):
    with pytest.raises(LayerError):
        instrument_file(cnn(), tmp_path / "out.onnx", layers="nothing")
    assert not list(tmp_path.iterdir())


def test_an_output_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out.onnx", tmp_path):
        with pytest.raises(OutputError, match="cannot be written"):
            instrument_file(cnn(), out)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_of_the_result_are_made_and_what_was_done_is_returned(tmp_path):
    out = tmp_path / "new" / "ünï" / "out.onnx"
    said = instrument_file(cnn(), out)
    assert (said.layers, said.layouts, said.score) == (("a",), ("NCHW",), "logits")
    assert run(str(out), images(1))["xcam_map"].shape == (1, 1, 6, 6)


# --- not twice, and no clashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", contract.CLASS_INPUTS)
def test_an_instrumented_model_is_refused(how, tmp_path):
    made = instrument(cnn(), class_input=how, classes=[1] if how == "fixed" else None)
    path = tmp_path / "made.onnx"
    onnx.save(made, path)
    for given in (made, path, made.SerializeToString()):
        with pytest.raises(ModelError, match="instrumented already"):
            instrument(given)


def test_names_that_would_clash_are_refused():
    model = cnn()
    model.graph.node[-1].output[0] = "xcam_map"
    model.graph.output[0].name = "xcam_map"
    with pytest.raises(ModelError, match="xcam_map"):
        instrument(model)


def test_inner_names_that_would_clash_are_refused_too():
    """Such as those of an instrumented model of which somebody has taken the outputs off."""
    model = instrument(cnn(), class_input="fixed", classes=[1])
    del model.graph.output[1:]
    with pytest.raises(ModelError, match="xcam_"):
        instrument(model)


def test_names_of_the_added_tensors_step_aside(batch):
    model = cnn(end="""y = Identity(logits)""", output=f"float[N,{C}] y")
    taken = {
        name
        for name in (n for node in instrument(model).graph.node for n in (*node.output, node.name))
        if name.startswith("xcam/")
    }
    inner = [node for node in model.graph.node if node.output[0] not in ("y", "logits")]
    renamed = dict(zip((node.output[0] for node in inner), sorted(taken), strict=False))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    found = run(instrument(model), batch)
    expected = run(instrument(cnn()), batch)
    np.testing.assert_array_equal(found["xcam_map"], expected["xcam_map"])


# --- versions --------------------------------------------------------------------------------------------------------


NEWEST_OPSET = pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 32), reason="opset 27 needs ONNX Runtime 1.32"
)


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("opset", [11, 12, 13, 15, 16, 17, 18, 20, 21, pytest.param(27, marks=NEWEST_OPSET)])
def test_every_opset_gives_the_same(opset, head, n, batch):
    """Only operators of the model's own opset are added, and the result is the same at every opset."""
    model = cnn(head, n=n, opset=opset)
    made = instrument(model, emit=ALL)
    onnx.checker.check_model(made, full_check=True)
    assert list(made.opset_import) == list(model.opset_import)
    found = run(made, batch, [[1, -1]])
    expected = run(instrument(cnn(head, n=n), emit=ALL), batch, [[1, -1]])
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found["logits"], run(model, batch)["logits"])


@pytest.mark.parametrize(("opset", "ir"), [(9, 3), (7, 3), (9, 4), (12, 3), (10, 5)])
def test_old_models_are_raised_and_that_is_said(opset, ir, batch, tmp_path):
    model = cnn("gap", opset=opset, ir=ir)
    if ir < 4:
        known = {i.name for i in model.graph.input}
        for tensor in model.graph.initializer:
            assert tensor.name not in known
            model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    before = run(model, batch)["logits"]
    path = tmp_path / "old.onnx"
    onnx.save(model, path)
    made = instrument(path)
    np.testing.assert_array_equal(run(made, batch)["logits"], before)
    notes = " ".join(json.loads(dict(props(made))["onnx_xcam"])["notes"])
    assert (f"opset {opset} to 11" in notes) == (opset < 11)
    assert (f"IR version raised from {ir} to 4" in notes) == (ir < 4)
    assert [i.name for i in made.graph.input] == ["image", "xcam_class"], "no weight stays overridable"
    assert_explains(run(made, batch, [[1, 2]]), cnn("gap"), "gap", batch, np.array([[1, 2]] * 2))
    instrument_file(path, tmp_path / "out.onnx")
    np.testing.assert_array_equal(run(str(tmp_path / "out.onnx"), batch)["logits"], before)


SWISH = ' <domain: "my", opset_import: ["" : 17]> swish (x) => (y) { s = Sigmoid(x)  y = Mul(x, s) }'
NESTED = (
    ' <domain: "my", opset_import: ["" : 17, "my" : 17]> gate (x) => (y) { y = Sigmoid(x) }'
    ' <domain: "my", opset_import: ["" : 17, "my" : 17]> swish (x) => (y) { s = my.gate(x)  y = Mul(x, s) }'
)
"""Calls of a domain that the functions import at another version than the model."""


@pytest.mark.parametrize("functions", [SWISH, NESTED])
def test_local_functions_are_inlined(batch, functions):
    model = build(
        "c = Conv<pads=[1,1,1,1]>(image, w)  a = my.swish(c)  p = GlobalAveragePool(a)  f = Flatten(p) "
        "logits = Gemm<transB=1>(f, fc)",
        {"w": (4, 3, 3, 3), "fc": (C, 4)},
        imports=', "my" : 1',
        functions=functions,
    )
    made = instrument(model)
    assert not made.functions
    assert "inlined" in " ".join(json.loads(dict(props(made))["onnx_xcam"])["notes"])
    found, before = run(made, batch), run(model, batch)
    np.testing.assert_allclose(found["logits"], before["logits"], rtol=1e-6)
    rows = weight(model, "fc")[found["xcam_classes"]] / 144
    np.testing.assert_allclose(
        found["xcam_gradients"], np.broadcast_to(rows[..., None, None], (2, 1, 4, 12, 12)), rtol=1e-5
    )
    assert json.loads(dict(props(made))["onnx_xcam"])["layers"] == ["a"]


def test_local_functions_of_another_opset_are_refused():
    model = build(
        "c = Conv(image, w)  a = my.swish(c)  logits = my.head(a, fc)",
        {"w": (4, 3, 3, 3), "fc": (C, 4)},
        imports=', "my" : 1',
        functions=SWISH.replace('"" : 17', '"" : 18')
        + ' <domain: "my", opset_import: ["" : 17]> head (a, fc) => (y) { p = GlobalAveragePool(a)  f = Flatten(p) '
        " y = Gemm<transB=1>(f, fc) }",
    )
    with pytest.raises(ModelError, match="1 local functions of the model could not be inlined, among them 'swish'"):
        instrument(model)


def test_wrongly_noted_shapes_are_not_believed(batch):
    """Some exporters move transposes about and leave the old shapes in the file."""
    body = "c = Conv<pads=[1,1,1,1]>(image, w)  a = Relu(c)  d = Conv(a, v)  b = Relu(d)  p = GlobalAveragePool(b)"
    right = build(
        body + "  f = Flatten(p)  logits = Gemm<transB=1>(f, fc)",
        {"w": (4, 3, 3, 3), "v": (5, 4, 3, 3), "fc": (C, 5)},
    )
    wrong = onnx.ModelProto()
    wrong.CopyFrom(right)
    for name in "ab":
        shape = ["N", 12, 12, 4] if name == "a" else ["N", 10, 10, 5]
        wrong.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    for layer in "ab":
        expected = run(instrument(right, layers=layer), batch, [[1, -1]])
        found = run(instrument(wrong, layers=layer), batch, [[1, -1]])
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_double_models(batch):
    """ONNX Runtime has no double convolution on the CPU, so the layer is the first pooling."""
    body = "a = MaxPool<kernel_shape=[2,2], strides=[2,2]>(image)  flat = Flatten(a)  logits = Gemm(flat, fc)"
    weights = {"fc": np.random.default_rng(0).normal(size=(3 * 36, C))}
    single = build(body, {"fc": weights["fc"].astype(np.float32)})
    double = build(body, weights, inputs="double[N,3,12,12] image", outputs=f"double[N,{C}] logits")
    found = run(instrument(double, emit=ALL), batch.astype(np.float64), [[1, -1]])
    assert found["logits"].dtype == np.float64
    expected = run(instrument(single, emit=ALL), batch, [[1, -1]])
    for name in expected:
        assert name == "logits" or found[name].dtype == expected[name].dtype, name
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    rows = weights["fc"].T[found["xcam_classes"]].astype(np.float32)
    np.testing.assert_array_equal(found["xcam_gradients"], rows.reshape(2, 2, 3, 6, 6))


@pytest.mark.parametrize("head", HEADS)
def test_a_negative_dimension_is_an_unknown_one(head, batch):
    """Some exporters write -1 for a dynamic batch."""
    model = cnn(head, n=-1)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == -1
    found = run(instrument(model), batch, [[1, -1]])
    expected = run(instrument(cnn(head)), batch, [[1, -1]])
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-7)


# --- contrast -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("against", [[[4]], [[4, -1, 0]], [[0], [1], [-1]]], ids=["one", "several", "each its own"])
def test_a_contrast_is_the_difference_of_two_classes(head, against):
    model, image, asked = cnn(head), images(3), np.array([[2, 1, 3]])
    against = np.broadcast_to(against, (3, 3))
    feeds = {"image": image, "xcam_class": asked, "xcam_against": against}
    made = session(instrument(model, contrast=True))
    found = dict(zip([out.name for out in made.get_outputs()], made.run(None, feeds), strict=True))
    logits = tensors(model, ["logits"], image)["logits"]
    contrasted = np.take_along_axis(logits, np.maximum(against, 0), 1) * (against >= 0)
    np.testing.assert_allclose(found["xcam_scores"], logits[:, asked[0]] - contrasted, rtol=1e-5, atol=1e-6)
    alone = run(instrument(model), image, np.broadcast_to(asked, (3, 3)))["xcam_gradients"]
    other = run(instrument(model), image, np.maximum(against, 0))["xcam_gradients"]
    expected = alone - other * (against >= 0)[..., None, None, None]
    np.testing.assert_allclose(found["xcam_gradients"], expected, rtol=1e-4, atol=1e-6)


def test_without_a_contrast_there_is_no_input_for_it():
    assert [value.name for value in instrument(cnn("gap")).graph.input] == ["image", "xcam_class"]
    names = [value.name for value in instrument(cnn("gap"), contrast=True).graph.input]
    assert names == ["image", "xcam_class", "xcam_against"]
    with pytest.raises(ClassError, match="A contrast is chosen when the model runs"):
        instrument(cnn("gap"), contrast=True, class_input="fixed", classes=[1])


def test_one_logit_is_contrasted_with_its_negative():
    model = cnn("pooled = GlobalAveragePool(a) flat = Flatten(pooled) logits = Gemm<transB=1>(flat, v, u)",
                output="float[N,1] logits", weights={"v": (1, 4), "u": (1,)})  # fmt: skip
    image = images(2)
    made = session(instrument(model, contrast=True))
    feeds = {"image": image, "xcam_class": np.array([[1]]), "xcam_against": np.array([[0]])}
    scores = made.run(["xcam_scores"], feeds)[0]
    np.testing.assert_allclose(scores, 2 * run(model, image)["logits"], rtol=1e-5)
