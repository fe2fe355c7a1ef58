"""What is no usable model: one clear error of ours, whatever the file holds."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_xcam
from helpers.models import GAP, GAP_WEIGHTS, C, build, cnn, saved
from onnx_xcam import check, inspect, instrument, instrument_file
from onnx_xcam.errors import LayerError, ModelError, UnsupportedOpError, XcamError
from onnx_xcam.surgery import instrument_bytes
from onnx_xcam.surgery.rules import RULES

CALLS = [instrument, instrument_bytes, inspect, check]


def refused(given, said):
    """All ways in give a ModelError whose one sentence says this."""
    for call in CALLS:
        with pytest.raises(ModelError, match=f"(?s){said}") as caught:
            call(given)
        assert "\n" not in str(caught.value)


def files(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    return [path, content]


@pytest.mark.parametrize(
    "content",
    [
        b"This is no model, it is a text of a few words.\n" * 3,
        "Größe".encode("utf-16"),
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b"PK\x03\x04" + bytes(200),
        b"\x00" * 100,
        b"\xff" * 100,
        b"\x0a",
        b"<html><body>Not found</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n",
        b"{}",
    ],
    ids=["text", "utf-16", "png", "zip", "zeros", "ones", "one byte", "html", "git lfs pointer", "json"],
)
def test_no_onnx_file(content, tmp_path):
    for given in files(tmp_path, content):
        refused(given, "is not an ONNX model|does not import the standard")


def test_empty(tmp_path):
    path, content = files(tmp_path, b"")
    refused(path, r"m\.onnx' is empty")
    refused(content, "is not an ONNX model")
    refused(onnx.ModelProto(), "no nodes")


def test_missing_and_folder(tmp_path):
    refused(tmp_path / "none.onnx", r"none\.onnx' does not exist")
    refused(str(tmp_path / "none.onnx"), "does not exist")
    refused(tmp_path, "cannot be read")
    refused(tmp_path / "none" / "m.onnx", "does not exist")


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="needs a user without all rights"
)
def test_unreadable(tmp_path):
    path = files(tmp_path, cnn().SerializeToString())[0]
    path.chmod(0)
    refused(path, "cannot be read")


@pytest.mark.parametrize("given", [None, 3, ["m.onnx"], np.zeros(3), {}])
def test_neither_path_nor_model(given):
    refused(given, "path, bytes or an onnx.ModelProto")


@pytest.mark.parametrize("hints", [False, True])
def test_truncated_anywhere(hints, tmp_path):
    """Cut at every 37th byte and around the ends: an error, or (cut between records behind the graph) the model."""
    model = cnn("gap")
    if hints:
        model.metadata_props.add(key="note", value="x" * 50)
    content = model.SerializeToString()
    whole = 0
    path = tmp_path / "cut.onnx"
    for cut in sorted({*range(1, len(content), 37), *range(1, 40), *range(len(content) - 60, len(content))}):
        path.write_bytes(content[:cut])
        for given in (content[:cut], path):
            try:
                instrument(given)
                whole += 1
            except ModelError as error:
                assert "damaged" in str(error) or "not an ONNX model" in str(error) or "standard ONNX" in str(error)
    assert whole <= 4, "only what follows the graph and its opset may be missing without a word"


def test_no_nodes_and_no_outputs():
    model = cnn()
    del model.graph.node[:]
    refused(model, "no nodes")
    refused(model.SerializeToString(), "no nodes")
    model = cnn()
    del model.graph.output[:]
    refused(model, "not an ONNX model, or has no")


def test_no_standard_operators():
    model = cnn()
    del model.opset_import[:]
    refused(model, "does not import the standard ONNX operators")
    model.opset_import.add(domain="ai.onnx.ml", version=3)
    refused(model, "does not import the standard ONNX operators")


def test_opset_newer_than_the_installed_onnx():
    newest = onnx.defs.onnx_opset_version()
    model = cnn()
    model.opset_import[0].version = newest + 1
    refused(model, f"opset {newest + 1}, but the installed onnx .* knows opsets up to {newest}; upgrade onnx")


def test_the_domains_other_name():
    """`ai.onnx` is the same as no name."""
    model = cnn()
    model.opset_import[0].domain = "ai.onnx"
    assert inspect(model).opset == 17


def test_cycle():
    model = build("a = Relu(b)  b = Add(a, image)  f = Flatten(b)  logits = Gemm(f, fc)", {"fc": (432, C)})
    refused(model, "which nothing before it makes")


def test_a_tensor_that_nothing_makes():
    model = cnn()
    model.graph.node[1].input[0] = "nowhere"
    refused(model, "reads 'nowhere', which nothing")


def test_an_output_that_nothing_makes():
    model = cnn()
    model.graph.output[0].name = "nowhere"
    refused(model, "output 'nowhere'.*made by no node")


def contradicting(which):
    if which == "shapes":
        model = cnn("gap")
        for tensor in model.graph.initializer:
            if tensor.name == "w2":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 9, 3, 3), np.float32), "w2"))
        return model
    return cnn("i = Cast<to=7>(a)  s = Add(a, i)  pooled = GlobalAveragePool(s)  flat = Flatten(pooled) "
               "logits = Gemm<transB=1>(flat, fc, fb)", weights=GAP_WEIGHTS)  # fmt: skip


@pytest.mark.parametrize("which", ["shapes", "types"])
def test_contradictions(which):
    """What only a run finds out, ONNX Runtime finds out: the surgery may pass, but `check` says it in a sentence."""
    with pytest.raises(XcamError, match=r"ONNX Runtime|contradict|spatial"):
        check(contradicting(which))
    with contextlib.suppress(XcamError):
        instrument(contradicting(which))


def test_unknown_operator_of_the_standard_domain():
    model = cnn(GAP.replace("Flatten", "Flaten"), weights=GAP_WEIGHTS)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("flat", 1, ["N", 4]))
    with pytest.raises(UnsupportedOpError, match="Flaten: 'flat'"):
        instrument(model)
    assert inspect(model).layers[-1].unsupported == {"Flaten": ["flat"]}


@pytest.mark.parametrize("where", ["node", "input", "weight"])
def test_names_that_are_not_text(where):
    """Protobuf for Python hands out damaged text as bytes."""
    content = cnn("gap").SerializeToString()
    changes = {"node": (b"Relu", b"Re\xfeu"), "input": (b"image", b"im\xffge"), "weight": (b"w2", b"\xfe2")}
    refused(content.replace(*changes[where]), "damaged")


def test_weights_that_do_not_fit_their_shape():
    model = cnn("gap")
    next(t for t in model.graph.initializer if t.name == "fb").raw_data = b"123"
    refused(model, "'fb'.*damaged|damaged.*'fb'")


@pytest.mark.parametrize("twice", ["c1", "w1", "image"])
def test_a_tensor_that_is_made_twice(twice):
    model = cnn("gap")
    next(node for node in model.graph.node if "r1" in node.output).output[0] = twice
    refused(model, f"makes '{twice}', which is there before it already|contradict|before it makes")


def test_input_without_any_shape():
    """Nothing tells that the image has four dimensions: said, with what the inputs look like."""
    model = cnn("gap")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(LayerError, match="No spatial layer"):
        instrument(model)


def test_inputs_that_are_no_tensors():
    model = cnn()
    value = onnx.helper.make_tensor_sequence_value_info("sequence", 1, None)
    model.graph.input.append(value)
    model.graph.node.insert(0, onnx.helper.make_node("SequenceLength", ["sequence"], ["length"]))
    assert inspect(model).score == "logits"


def test_sparse_weights():
    """Sparse initializers are tensors like others: used, or refused with a word, and never a traceback."""
    model = cnn("gap")
    values = onnx.numpy_helper.from_array(np.ones(2, np.float32), "b2")
    indices = onnx.numpy_helper.from_array(np.array([0, 3]), "b2_at")
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "b2"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4]))
    try:
        made = instrument(model)
    except XcamError as error:
        assert "b2" in str(error)
    else:
        from helpers.models import images, run

        assert run(made, images(1))["xcam_map"].any()


def test_a_model_with_control_flow_before_the_layer(batch):
    """An If that reads tensors from outside: nothing behind the layer, so it does not matter."""
    from helpers.models import run

    text = """
      m = ReduceMean<keepdims=0>(image)  zero = Constant<value_float=0.0>()  big = Greater(m, zero)
      x = If<then_branch = t () => (float[N,3,12,12] u) { u = Identity(image) },
             else_branch = e () => (float[N,3,12,12] v) { v = Neg(image) }>(big)
      c = Conv<pads=[1,1,1,1]>(x, w)  a = Relu(c)
    """
    model = build(text + GAP, {"w": (4, 3, 3, 3), **GAP_WEIGHTS})
    before = run(model, batch)["logits"]
    found = run(instrument(model), batch, [[1]])
    np.testing.assert_array_equal(found["logits"], before)
    assert found["xcam_map"].shape == (2, 1, 12, 12)


def test_control_flow_in_the_way_is_named(batch):
    """Also where its bodies take the layer from outside, not as an input."""
    from helpers.models import run

    text = """
      c = Conv<pads=[1,1,1,1]>(image, w)  m = ReduceMean<keepdims=0>(c)
      zero = Constant<value_float=0.0>()  big = Greater(m, zero)
      x = If<then_branch = t () => (float[N,4,12,12] u) { u = Relu(c) },
             else_branch = e () => (float[N,4,12,12] v) { v = Neg(c) }>(big)
      a = Relu(x)
    """
    model = build(text + GAP, {"w": (4, 3, 3, 3), **GAP_WEIGHTS})
    with pytest.raises(UnsupportedOpError, match=r"If: 'x'.*The nearest layer that works is"):
        instrument(model, layers="c")
    assert run(instrument(model), batch)["xcam_map"].any(), "behind it everything works"


QUANTISED = {
    "DynamicQuantizeLinear": "p = GlobalAveragePool(a) flat = Flatten(p) q, s, z = DynamicQuantizeLinear(flat) "
    "i = MatMulInteger(q, wq, z) f = Cast<to=1>(i) logits = Mul(f, step)",
    "QuantizeLinear": "q = QuantizeLinear(a, step, zero) d = DequantizeLinear(q, step, zero) b = Add(a, d) "
    + GAP.replace("(a)", "(b)"),
}


@pytest.mark.parametrize("op", QUANTISED)
def test_quantised_values_are_not_taken_for_constants(op, monkeypatch):
    """Integers hand the value on: without a rule for that no gradient, not the part that goes another way."""
    monkeypatch.delitem(RULES, op)
    weights = {"wq": np.ones((4, C), np.int8), "step": np.array(0.1, np.float32), "zero": np.array(0, np.uint8)}
    model = cnn(QUANTISED[op], weights={**GAP_WEIGHTS, **weights})
    with pytest.raises(UnsupportedOpError, match=f"{op}: '"):
        instrument(model, layers="a")
    assert op in inspect(model).layers[0].unsupported


def test_a_stored_value_that_is_damaged_is_told_in_one_sentence():
    model = cnn("gap", end="shift = Constant<value_int=0>()  moved = Add(logits, shift)", output=f"float[N,{C}] moved")
    constant = next(node for node in model.graph.node if node.op_type == "Constant")
    constant.attribute[0].CopyFrom(
        onnx.helper.make_attribute("value", onnx.TensorProto(data_type=onnx.TensorProto.INT4, dims=[1]))
    )
    for call in CALLS:
        with pytest.raises(ModelError, match=r"The value of node 'shift' \(Constant\) is damaged: .*[^.]\.$"):
            call(model)


def test_errors_are_one_tree():
    from onnx_xcam import errors

    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning):
            assert issubclass(kind, onnx_xcam.XcamError), name


def test_instrument_file_says_the_same(tmp_path):
    for given in (tmp_path / "none.onnx", b"abc", tmp_path):
        with pytest.raises(ModelError):
            instrument_file(given, tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


# --- files of one machine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [inspect, instrument, check], ids=["inspect", "instrument", "check"])
def test_what_is_optimised_for_one_machine_is_refused(how):
    model = cnn(GAP, weights=GAP_WEIGHTS)
    node = next(node for node in model.graph.node if node.op_type == "MaxPool")
    node.domain = "com.microsoft.nchwc"
    model.opset_import.add(domain="com.microsoft.nchwc", version=1)
    with pytest.raises(ModelError, match=r"1 nodes of the domain com\.microsoft\.nchwc .*'extended'"):
        how(model)


def test_what_is_saved_at_the_last_level_is_refused_or_as_good_as_the_original(tmp_path: Path):
    """Which of the two depends on the processor that the test runs on."""
    model = saved(cnn(GAP, weights=GAP_WEIGHTS), ort.GraphOptimizationLevel.ORT_ENABLE_ALL, tmp_path)
    if any(node.domain == "com.microsoft.nchwc" for node in model.graph.node):
        with pytest.raises(ModelError, match="use the file from before that optimisation"):
            instrument(model)
    else:
        assert instrument(model)


def test_an_instrumented_model_may_be_optimised_for_one_machine(tmp_path: Path):
    model = saved(instrument(cnn(GAP, weights=GAP_WEIGHTS)), ort.GraphOptimizationLevel.ORT_ENABLE_ALL, tmp_path)
    assert inspect(model).instrumented


@pytest.mark.parametrize("how", [inspect, instrument], ids=["inspect", "instrument"])
def test_what_is_compiled_for_one_device_is_refused(how):
    model = cnn(GAP, weights=GAP_WEIGHTS)
    node = next(node for node in model.graph.node if node.op_type == "MaxPool")
    node.op_type, node.domain = "EPContext", "com.microsoft"
    with pytest.raises(ModelError, match=r"compiled for one device.*file that it was compiled from"):
        how(model)
