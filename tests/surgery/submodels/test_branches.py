"""What branches of an If behind a layer read goes along with the part behind it, wherever the file keeps it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.models import GAP_WEIGHTS, C, cnn, images, tensors
from onnx_xcam import check
from onnx_xcam.ablation import open_ablations
from onnx_xcam.surgery.files.wire import PAYLOAD_LIMIT

KERNEL = (4, 4, 31, 31)
"""A kernel that is too large to have its values in the analysed graph."""
PLACES = ["around", "in both branches", "in Constant nodes", "in an If in a branch"]
FILES = ["inside", "outside"]


def model_with(place: str) -> onnx.ModelProto:
    """A model whose If chooses by the layer's values between two kernels, the same kernels wherever they are stored."""
    text = {
        "around": ("p = Identity(k)", "q = Neg(m)"),
        "in both branches": ("p = Identity(w)", "q = Neg(w)"),
        "in Constant nodes": ("p = Identity(w)", "q = Neg(w)"),
        "in an If in a branch": (
            "p = If(no) <then_branch = u () => (float[4,4,31,31] s) { s = Neg(w) }, "
            "else_branch = v () => (float[4,4,31,31] r) { r = Identity(w) }>",
            "q = Neg(m)",
        ),
    }[place]
    model = cnn(
        "h = ReduceSum<keepdims=0>(a)  zero = Constant<value_float=0.0>()  yes = Greater(h, zero)  no = Not(yes) "
        f"g = If(yes) <then_branch = t () => (float[4,4,31,31] p) {{ {text[0]} }}, "
        f"else_branch = e () => (float[4,4,31,31] q) {{ {text[1]} }}> "
        "o = Conv<pads=[15,15,15,15]>(a, g)  pooled = GlobalAveragePool(o)  flat = Flatten(pooled) "
        "logits = Gemm<transB=1>(flat, fc, fb)",
        weights={"k": KERNEL, "m": KERNEL, **GAP_WEIGHTS},
    )
    node = next(node for node in model.graph.node if node.op_type == "If")
    branches = [attribute.g for attribute in node.attribute]
    if place == "in an If in a branch":
        _store(model, [attribute.g for attribute in branches[0].node[0].attribute], ["m", "k"])
    elif place != "around":
        _store(model, branches, ["k", "m"], as_nodes=place == "in Constant nodes")
    return model


def _store(model: onnx.ModelProto, branches: list[onnx.GraphProto], names: list[str], *, as_nodes: bool = False):
    """Store in each branch a copy of a weight of the model under the name w."""
    for branch, name in zip(branches, names, strict=True):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(next(one for one in model.graph.initializer if one.name == name))
        tensor.name = "w"
        if as_nodes:
            branch.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=tensor))
        else:
            branch.initializer.append(tensor)


def saved(model: onnx.ModelProto, kept: str, folder) -> str:
    copy, path = onnx.ModelProto(), str(folder / "m.onnx")
    copy.CopyFrom(model)
    if kept == "outside":
        onnx.external_data_helper.convert_model_to_external_data(
            copy, location="m.bin", size_threshold=0, convert_attribute=True
        )
        onnx.save(copy, path)
    else:
        onnx.save(copy, path)
    return path


@pytest.mark.parametrize("kept", FILES)
@pytest.mark.parametrize("place", PLACES)
def test_the_part_behind_a_layer_has_the_weights_of_branches(place, kept, tmp_path):
    model, image = model_with(place), images(1)
    path = saved(model, kept, tmp_path)
    assert np.prod(KERNEL) * 4 > PAYLOAD_LIMIT
    of_both = (open_ablations(one, ["c2", "a"], providers="cpu", threads=1) for one in (model_with("around"), path))
    for expected, found in zip(*of_both, strict=True):
        values = tensors(model, found.needed, image)
        classes = list(range(C))
        np.testing.assert_allclose(found.scores(values, classes), values["logits"][0], rtol=1e-5)
        np.testing.assert_allclose(found.ablated(values, classes), expected.ablated(values, classes), rtol=1e-5)
        ours, theirs = (one.decomposition(values, classes) for one in (found, expected))
        np.testing.assert_allclose(ours.layer, theirs.layer, rtol=1e-5)
        np.testing.assert_allclose(ours.bias, theirs.bias, rtol=1e-5)


@pytest.mark.parametrize("kept", FILES)
@pytest.mark.parametrize("place", PLACES)
def test_a_model_with_weights_in_branches_passes_its_checks(place, kept, tmp_path):
    report = check(saved(model_with(place), kept, tmp_path), layers="a")
    assert report.passed, report.text()
    assert "the score changes by" in report.text() and "not compared" not in report.text()
