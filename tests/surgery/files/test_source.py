"""Reading a model without its weights, and writing it with a tail."""

from __future__ import annotations

import mmap

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.models import GAP_WEIGHTS, C, build, cnn, images, props, run, weight
from onnx_xcam import instrument, instrument_file
from onnx_xcam.surgery import instrument_bytes
from onnx_xcam.surgery.files import wire
from onnx_xcam.surgery.files.source import Source

LIMIT = wire.PAYLOAD_LIMIT

# --- the wire format -------------------------------------------------------------------------------------------------


def big_model():
    """A model with large and small tensors wherever a model can have them: initializers, attributes, subgraphs."""
    branch = helper.make_graph(
        [
            helper.make_node("Constant", [], ["inner"], value=_tensor("v", LIMIT)),
            helper.make_node("Neg", ["inner"], ["n"]),
        ],
        "then",
        [],
        [helper.make_tensor_value_info("n", 1, [LIMIT])],
        [_tensor("held", LIMIT), _tensor("small", 3)],
    )
    nodes = [
        helper.make_node("Constant", [], ["k"], value=_tensor("", LIMIT)),
        helper.make_node("If", ["c"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("Strange", ["i"], ["s"], domain="my", many=[_tensor("t", 3), _tensor("u", LIMIT)]),
        helper.make_node("Add", ["k", "big"], ["y"]),
    ]
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [LIMIT], np.arange(LIMIT, dtype=np.float32))
    longs = helper.make_tensor("longs", TensorProto.INT64, [LIMIT], np.arange(LIMIT))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("c", 9, [])],
        [helper.make_tensor_value_info("y", 1, [LIMIT])],
        [_tensor("big", LIMIT), _tensor("little", 5), typed, longs],
        doc_string="ä" * 1000,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("my", 1)])
    model.metadata_props.add(key="long", value="x" * 2 * LIMIT)
    return model


def _tensor(name, size):
    return numpy_helper.from_array(np.arange(size, dtype=np.float32), name)


def tensors_in(graph):
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from tensors_in(attribute.g)


def test_a_skeleton_is_the_model_without_its_large_weights():
    model = big_model()
    content = model.SerializeToString()
    skeleton = wire.skeleton(memoryview(content))
    assert len(skeleton.SerializeToString()) < 3 * LIMIT < len(content) / 10
    pairs = list(zip(tensors_in(skeleton.graph), tensors_in(model.graph), strict=True))
    assert len(pairs) == 13
    for got, original in pairs:
        assert (got.name, got.data_type, list(got.dims)) == (original.name, original.data_type, list(original.dims))
        if original.ByteSize() > LIMIT:
            assert got.data_location == TensorProto.EXTERNAL
            assert not got.raw_data
            assert not got.float_data
            assert not got.int64_data
            got.CopyFrom(original)
    assert skeleton == model, "nothing but the payload is gone"


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_limit_is_exact(extra):
    """The limit counts the bytes of the whole tensor message."""
    empty = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[LIMIT])
    overhead = empty.ByteSize() + 4
    size = LIMIT - overhead + extra
    model = build("y = Relu(x)", inputs="float[N] x", outputs="float[N] y")
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(TensorProto(name="w", data_type=TensorProto.UINT8, dims=[LIMIT], raw_data=b"a" * size))
    assert tensor.ByteSize() == LIMIT + extra
    for skeleton in (wire.skeleton(memoryview(model.SerializeToString())), Source(model).skeleton()):
        assert (skeleton.graph.initializer[0].data_location == TensorProto.EXTERNAL) == (extra > 0)


def test_loading_record_by_record_is_loading():
    model = big_model()
    content = model.SerializeToString()
    assert wire.load(memoryview(content)) == model
    assert wire.load(memoryview(content)).SerializeToString() == content


def test_loading_a_mapped_file_of_megabytes(tmp_path):
    """Pages are given back while it is read, and must come again where they are needed."""
    big = np.random.default_rng(0).normal(size=(3 << 18)).astype(np.float32)
    model = build("y = Add(x, w)", {"w": big, "v": big[::-1].copy()}, inputs="float[1] x", outputs="float[786432] y")
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        assert wire.load(view) == model
        assert wire.load(view) == model
    assert Source(path).load() == model


def test_unknown_fields_and_concatenated_parts_are_kept():
    """A model is often a concatenation itself (ours are), and newer files have fields that this onnx does not know."""
    model = cnn("dense")
    extra = onnx.ModelProto()
    extra.graph.node.add(op_type="Neg", input=["logits"], output=["more"])
    future = bytes([0xFA, 0x3E, 3]) + b"abc" + bytes([0xF8, 0x3E, 0x96, 0x01])  # fields 1007 as bytes and as number
    content = model.SerializeToString() + future + extra.SerializeToString()
    expected = onnx.ModelProto.FromString(content)
    assert wire.load(memoryview(content)) == expected
    assert wire.skeleton(memoryview(content)).SerializeToString() == expected.SerializeToString()
    made = instrument_bytes(content)
    assert made.startswith(content)
    assert run(made, images(1))["xcam_map"].any()


@pytest.mark.parametrize("order", ["axb", "xab", "abx", "xaxbx", "x", "ab"])
def test_metadata_taken_out(order):
    model = cnn("gap")
    for index, key in enumerate(order):
        model.metadata_props.add(key={"x": "onnx_xcam"}.get(key, key), value=str(index) * 40)
    content = model.SerializeToString()
    left = onnx.ModelProto.FromString(b"".join(wire.without_metadata(memoryview(content), "onnx_xcam")))
    assert [key for key, _ in props(left)] == [key for key in order if key != "x"]
    for entry in [entry for entry in model.metadata_props if entry.key == "onnx_xcam"]:
        model.metadata_props.remove(entry)
    assert left == model


@pytest.mark.parametrize("seed", range(6))
def test_damaged_bytes_are_an_error_of_ours_or_a_message(seed):
    """Whatever the bytes: never another exception than ours, and never a hang."""
    random = np.random.default_rng(seed)
    content = bytearray(cnn("gap").SerializeToString())
    for _ in range(60):
        damaged = bytearray(content)
        for at in random.integers(0, len(damaged), random.integers(1, 6)):
            damaged[at] = random.integers(0, 256)
        try:
            instrument(bytes(damaged))
        except onnx_xcam_error():
            pass


def onnx_xcam_error():
    import onnx_xcam

    return onnx_xcam.XcamError


# --- whole models ---------------------------------------------------------------------------------------------------


def test_large_weights_are_neither_read_nor_lost(tmp_path):
    """A layer with weights far above the skeleton's limit, wherever the surgery needs only their shape."""
    body = "c = Conv<pads=[1,1,1,1]>(image, w)  a = Relu(c)  p = GlobalAveragePool(a)  f = Flatten(p) "
    model = build(body + "logits = Gemm<transB=1>(f, fc)", {"w": (512, 3, 3, 3), "fc": (C, 512)})
    assert len(model.SerializeToString()) > 2 * LIMIT
    path, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    onnx.save(model, path)
    instrument_file(path, out)
    tail = len(out.read_bytes()) - len(path.read_bytes())
    assert 0 < tail < 10_000
    found = run(str(out), images(2), [[3]])
    expected = np.broadcast_to(weight(model, "fc")[3][:, None, None] / 144, (2, 1, 512, 12, 12))
    np.testing.assert_allclose(found["xcam_gradients"], expected, rtol=1e-5)
    assert instrument(model) == onnx.load(out)


def test_the_tail_is_small():
    for head in ("gap", "dense"):
        model = cnn(head, weights={} if head == "dense" else GAP_WEIGHTS)
        assert len(instrument_bytes(model, emit=["map"])) - model.ByteSize() < 8_000
