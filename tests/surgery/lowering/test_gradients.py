"""The gradient through an operator of ONNX Runtime's own is that through the standard nodes that take its place."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.lowering.single import CASES, MICROSOFT, Case
from helpers.models import C, images, session
from onnx_xcam import check, instrument
from onnx_xcam.surgery.lowering import lowered

CAM = ("map", "activations", "gradients")


def net(case: Case, opset: int) -> onnx.ModelProto:
    """A feature map `a` [1,4,6,6], of which the node takes its float inputs; behind it logits."""
    random = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("Flatten", ["a"], ["flat"]),
    ]
    weights = {"w": random.normal(size=(4, 3, 3, 3)) * 0.3}
    names = []
    for index, array in enumerate(case.arrays()):
        names.append("" if array is None else f"i{index}")
        if array is None:
            continue
        if array.dtype != np.float32 or array.ndim < 2 or index in case.weights:
            weights[names[-1]] = array
            continue
        weights[f"p{index}"] = random.normal(size=(144, array.size)) * 0.1
        weights[f"s{index}"] = np.array(array.shape, np.int64)
        nodes.append(helper.make_node("Gemm", ["flat", f"p{index}"], [f"g{index}"]))
        nodes.append(helper.make_node("Reshape", [f"g{index}", f"s{index}"], [f"i{index}"]))
    asked = range(case.outputs) if isinstance(case.outputs, int) else case.outputs
    outputs = [f"o{index}" if index in asked else "" for index in range(max(asked) + 1)]
    node = helper.make_node(case.op, names, outputs, name="node", domain=case.domain, **case.attributes)
    nodes.append(node)
    weights["one"] = np.array([1, -1], np.int64)
    nodes.append(helper.make_node("Reshape", ["o0", "one"], ["row"]))
    size = session(case.model(opset)).run(None, case.feeds())[0].size
    weights["head"] = random.normal(size=(size, C))
    nodes.append(helper.make_node("MatMul", ["row", "head"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, C])],
        [numpy_helper.from_array(a.astype(np.float32) if a.dtype == np.float64 else a, n) for n, a in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10 if opset > 20 else 8)


def _has_kernel(case: Case) -> bool:
    if not case.runs:
        return True  # with a newer ONNX Runtime it may have one: the tests are skipped by name
    try:
        session(case.model(case.opsets[0])).run(None, case.feeds())
    except (
        ort.capi.onnxruntime_pybind11_state.NotImplemented,
        ort.capi.onnxruntime_pybind11_state.Fail,
        ort.capi.onnxruntime_pybind11_state.RuntimeException,
    ):
        return False
    return True


FORMS = [
    pytest.param(case, opset, id=f"{case.name} opset {opset}", marks=case.too_new)
    for case in CASES
    if case.op not in ("GridSample", "GatherND") and _has_kernel(case)
    for opset in {case.opsets[0], case.opsets[-1]}
]


@pytest.mark.parametrize(("case", "opset"), FORMS)
def test_the_gradient_is_that_of_the_standard_nodes(case: Case, opset: int):
    model = net(case, opset)
    standard = lowered(model).model
    assert not [node.op_type for node in standard.graph.node if node.domain]
    image = images(1)
    ours, theirs = (_run(instrument(one, layers="a", emit=CAM), image) for one in (model, standard))
    for name in ("xcam_scores", "xcam_gradients", "xcam_map"):
        scale = np.abs(theirs[name]).max()
        assert scale > 1e-3
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5 * scale)
    plain = session(model).run(None, {"image": image})[0]
    np.testing.assert_allclose(ours["logits"], plain, rtol=0, atol=1e-6 * np.abs(plain).max())


@pytest.mark.parametrize("op", sorted({form.values[0].op for form in FORMS if form.values[0].runs}))
def test_check_proves_it(op: str):
    case = next(form.values[0] for form in reversed(FORMS) if form.values[0].op == op and form.values[0].runs)
    report = check(net(case, case.opsets[-1]), layers="a")
    assert report.passed, report.text()


def _run(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    made = session(model)
    names = [out.name for out in made.get_outputs()]
    return dict(zip(names, made.run(None, {"image": image}), strict=True))


@pytest.mark.parametrize(("case", "opset"), FORMS)
def test_the_gradient_is_that_of_the_model_itself(case: Case, opset: int):
    """By finite differences of what ONNX Runtime computes of the model as it is."""
    model = net(case, opset)
    node = next(node for node in model.graph.node if node.output[0] == "a")
    node.output[0] = "a0"
    model.graph.node.insert(2, helper.make_node("Add", ["a0", "shift"], ["a"]))
    shift = model.graph.initializer.add()
    shift.CopyFrom(numpy_helper.from_array(np.zeros((1, 4, 6, 6), np.float32), "shift"))
    image, random = images(1), np.random.default_rng(5)
    found = _run(instrument(model, layers="a", emit=("gradients",)), image)
    gradient, top, step = found["xcam_gradients"][0], int(found["xcam_classes"][0, 0]), 0.005
    other = random.normal(size=gradient.shape)
    direction = (gradient / np.linalg.norm(gradient) + other / np.linalg.norm(other)).astype(np.float32)
    scores = []
    for sign in (1, -1):
        shift.CopyFrom(numpy_helper.from_array(direction * np.float32(sign * step), "shift"))
        scores.append(float(_run(model, image)["logits"][0, top]))
    slope = (scores[0] - scores[1]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=0.01)
    assert abs(slope) > 0.5 * np.linalg.norm(gradient), "the direction would say nothing of the gradient"
