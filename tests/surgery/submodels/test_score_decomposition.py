"""What a score is made of behind a layer: affine terms against Euler's theorem, and whole parts to the last digit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers import ROOT
from helpers.gradients.checker import DEFAULT_DOMAIN, EVALUATORS, float_outputs, spaced, with_float_type
from helpers.gradients.rows import Row, floats, row, scalar
from helpers.gradients.table import ROWS
from helpers.layer_models import MODELS, picture, run_of
from helpers.models import GAP, GAP_WEIGHTS, cnn, images, weight
from helpers.quantised_twins import quantised
from helpers.token_models import token_model
from onnx_xcam.ablation import ScoreDecomposition, open_ablations
from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.autodiff.vjp_model import new_emitter, tensor_info
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.ir import op_traits
from onnx_xcam.surgery.ir.op_facts import Affine
from onnx_xcam.surgery.ir.op_traits import named
from onnx_xcam.surgery.submodels import score_decomposition
from onnx_xcam.surgery.submodels.affine_terms import AFFINE_TERMS

SAMPLE = ROOT / "sample_models" / "efficientnet_lite0.onnx"
MORE_ROWS = [
    row("Clip", "float[N,3] x", scalar("l", -1.0) + scalar("h", 2.0) + "y = Clip(x, l, h)"),
    row("Max", "float[N,3] x", floats("m", 0.5, -1.0, 1.0) + "y = Max(x, m)"),
    row("Min", "float[N,3] x, float[N,3] m", "y = Min(m, x)"),
    row("Sub", "float[N,3] x, float[N,3] z", "y = Sub(z, x)"),
    row("Concat", "float[N,3] x, float[N,2] z", "y = Concat<axis=1>(z, x, z)"),
]
"""Those of the rules' own table have no numbers here that count."""
AFFINE = {op for op in op_traits._STANDARD if named(op).affine}
CURVED = {"LayerNormalization", "InstanceNormalization", "GroupNormalization"}
"""Operators that are curved and have a bias."""
ASKED = AFFINE | set(AFFINE_TERMS)
CASES = [r for r in [*ROWS, *MORE_ROWS] if r.op in ASKED and "static" in r.variants]


def imbalance(case: Row) -> list[float]:
    """<gy, y> - <gx, x> - <gy, affine terms>, relative to its terms, for each input by which all is affine."""
    problem = case.problem("static", case.opsets[-1])
    exact = problem.oracle != "linear"
    model = with_float_type(problem.model, onnx.TensorProto.DOUBLE) if exact else problem.model
    number = np.float64 if exact else np.float32
    rng = np.random.default_rng(0)
    feeds = {n: spaced(rng, s, *problem.domains.get(n, DEFAULT_DOMAIN)) for n, s in problem.shapes.items()}
    feeds |= problem.given
    names = float_outputs(model)
    ys = dict(zip([o.name for o in model.graph.output], EVALUATORS[problem.oracle](model, feeds), strict=True))
    gys = {name: rng.normal(size=(2, *ys[name].shape)) for name in names}
    found = []
    for active in problem.wrt:
        made, curved = parts_model(model, names, active, number)
        if curved:
            continue
        layer, bias, side, magnitude = EVALUATORS[problem.oracle](made, feeds | {f"gy_{n}": g for n, g in gys.items()})
        left = sum((gys[n] * ys[n]).reshape(2, -1).sum(1) for n in names)
        scale = magnitude + sum(np.abs(gys[n] * ys[n]).reshape(2, -1).sum(1) for n in names)
        found.append(float(np.max(np.abs(left - layer - bias - side) / (scale + (scale == 0)))) / (1 if exact else 1e3))
    return found


def parts_model(
    model: onnx.ModelProto, names: list[str], active: str, number: type
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with only the sums as outputs, given the gradients of its own ones."""
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    graph = prepare(skeleton)
    emitter: Emitter = new_emitter(graph)
    ys = {name: forward_value(graph, emitter, name, "a test") for name in names}
    seeds = {name: emitter.input(f"gy_{name}", number, ("K", *y.shape)) for name, y in ys.items()}
    sums = score_decomposition.Sums(seeds[names[0]])
    gx, curved = score_decomposition.emit_affine_terms(graph, emitter, seeds, active, sums=sums)
    x = forward_value(graph, emitter, active, "a test")
    sums.add("layer", score_decomposition.expanded(gx, x), x)
    outputs = [emitter.named(value, f"xcam_{part}") for part, value in sums.totals.items()]
    tail = export(emitter, [value.name for value in outputs], 8)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.node.extend(tail.node)
    result.graph.initializer.extend(tail.initializer)
    result.graph.input.extend(tensor_info(seed) for seed in seeds.values())
    result.graph.output.extend(tensor_info(value) for value in outputs)
    return result, curved


@pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.op}-{i}") for i, c in enumerate(CASES)])
def test_an_operator_is_its_derivative_and_its_constant_part(case):
    assert max(imbalance(case), default=0) < 1e-9


def test_every_operator_was_tried():
    tried = {case.op for case in CASES if imbalance(case)}
    assert ASKED - tried <= CURVED


def test_what_an_affine_operator_adds_is_known():
    """A row that says so without an affine term would have c taken for nothing."""
    piecewise = {op for op in AFFINE if named(op).affine == Affine.PIECEWISE}
    assert piecewise - set(AFFINE_TERMS) == set(), "give these an affine term in submodels/affine_terms.py"
    assert set(AFFINE_TERMS) - AFFINE == CURVED


@pytest.mark.parametrize("op", sorted(set(AFFINE_TERMS) - CURVED))
def test_a_constant_part_that_is_left_out_is_missed(op, monkeypatch):
    monkeypatch.setitem(AFFINE_TERMS, op, lambda _: iter(()))
    assert any(error > 1e-3 for case in CASES if case.op == op for error in imbalance(case))


# --- whole ablations --------------------------------------------------------------------------------------------------


def decompositions(
    model: onnx.ModelProto, layers: list[str], classes: list[int] | None = None
) -> list[ScoreDecomposition]:
    ablations = open_ablations(model, layers, providers="cpu", threads=1)
    image = picture(model)
    return [ablation.decomposition(run_of(model, ablation.needed, image), classes or [0, 1]) for ablation in ablations]


def left(found: ScoreDecomposition) -> float:
    """What is left of the scores, relative to what they are sums of."""
    return float(np.max(np.abs(found.remainder) / found.magnitude))


@pytest.mark.parametrize("case", sorted(MODELS.keys() - {"channels last", "one logit", "[N]"}))
def test_nothing_is_left_of_a_piecewise_affine_part(case):
    for found in decompositions(*MODELS[case]):
        assert found.curved == ()
        assert left(found) < 1e-6


def test_a_head_that_is_reshaped_to_computed_lengths():
    """As tf2onnx writes Flatten: in the ablation alone, nothing tells the rank of what comes out."""
    behind = (
        "s = Shape(r1)  n = Gather<axis=0>(s, first)  n32 = Cast<to=6>(n)  part = Slice(n32, zero, one)  "
        "lengths = Concat<axis=0>(part, rest)  to = Cast<to=7>(lengths)  flat = Reshape(a, to)  "
        "m = MatMul(flat, d1)  hidden = Add(m, e1)  active = Relu(hidden)  "
        "m2 = MatMul(active, d2)  logits = Add(m2, e2)"
    )
    weights = {
        "first": np.array([0, 2, 3, 1]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "rest": np.array([144], np.int32),
        **{"d1": (144, 7), "e1": (7,), "d2": (7, 5), "e2": (5,)},
    }
    (found,) = decompositions(cnn(behind, weights=weights, opset=13), ["a"], [0, 3])
    assert left(found) < 1e-6
    assert np.abs(found.bias).min() > 1e-3


def test_a_linear_head_leaves_its_bias_alone():
    model = cnn("gap")
    (found,) = decompositions(model, ["a"], [0, 3, 4])
    np.testing.assert_allclose(found.bias, weight(model, "fb")[[0, 3, 4]], rtol=1e-6)
    np.testing.assert_array_equal(found.side, 0)


def test_many_classes_take_several_runs(monkeypatch):
    model, _ = MODELS["dense"]
    (whole,) = decompositions(model, ["p1"], [4, 0, 3, 1, 2])
    monkeypatch.setattr("onnx_xcam.runtime.batching.CLASSES_OF_A_DECOMPOSITION", 2)
    (parted,) = decompositions(model, ["p1"], [4, 0, 3, 1, 2])
    for part in ("layer", "bias", "magnitude"):
        np.testing.assert_allclose(getattr(parted, part), getattr(whole, part), rtol=1e-6)
        assert len(set(getattr(whole, part))) == 5


def test_what_goes_round_the_layer_is_told_apart():
    """logits = fc mean(relu(c3 + r2)) + fb: r2 adds fc mean(r2 where s3 > 0)."""
    model, _ = MODELS["added"]
    (found,) = decompositions(model, ["c3"])
    inner = run_of(model, ("s3", "r2", "c3"), picture(model))
    active = inner["s3"] > 0
    fc, fb = weight(model, "fc").astype(np.float64)[:2], weight(model, "fb").astype(np.float64)[:2]
    for part, expected in (("side", inner["r2"]), ("layer", inner["c3"])):
        np.testing.assert_allclose(getattr(found, part), fc @ (expected * active).mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.bias, fb, rtol=1e-6)
    assert np.abs(found.side).min() > 1e-3


def test_tokens_that_the_map_does_not_show_go_round_it():
    grid, every = (decompositions(token_model(name), ["x1"])[0] for name in ("registers behind", "no other token"))
    assert np.abs(grid.side).min() > 1e-3
    np.testing.assert_array_equal(every.side, 0)
    assert grid.curved
    np.testing.assert_allclose(grid.layer + grid.side + grid.bias + grid.remainder, grid.scores)


SWISH = "s = Sigmoid(b4)  q = Mul(b4, s)"


@pytest.mark.parametrize("curve", ["q = Tanh(b4)", SWISH, "q = Mul(b4, b4)", "q = Softmax<axis=1>(b4)"])
def test_curved_nodes_are_named_and_leave_something(curve):
    act = f"r2 = Relu(c2)  b4 = Conv<pads=[1,1,1,1]>(r2, w3)  {curve}  a = Identity(q)"
    model = cnn(GAP, act=act, weights={**GAP_WEIGHTS, "w3": (4, 4, 3, 3)})
    (found,) = decompositions(model, ["r2"])
    assert len(found.curved) == 1
    assert left(found) > 1e-3


def test_quantised_models_are_refused(tmp_path):
    with pytest.raises(UnsupportedOpError, match="each rounding adds its own"):
        decompositions(quantised("qdq", tmp_path), ["a"])


@pytest.fixture(scope="module")
def sample():
    """Ablation at layers of the sample model, and what they are fed."""
    layers = ["auto", "/_blocks.11/_swish_1/Clip_output_0", "/_blocks.9/Add_output_0"]
    model = onnx.load(SAMPLE)
    ablations = open_ablations(model, layers, providers="cpu", threads=2)
    image = images(1, size=224)
    return [(ablation, run_of(model, ablation.needed, image)) for ablation in ablations]


def test_nothing_is_left_of_a_relu6_network_with_real_weights(sample):
    for ablation, values in sample:
        found = ablation.decomposition(values, [281, 282, 7])
        assert found.curved == ()
        assert left(found) < 1e-6
        assert np.abs(found.bias).max() > 0.02 * np.abs(found.scores).max()


@pytest.mark.parametrize("op", ["Conv", "Clip", "Gemm"])
def test_a_bias_that_is_dropped_leaves_a_gap(op, monkeypatch):
    monkeypatch.setitem(AFFINE_TERMS, op, lambda _: iter(()))
    model = onnx.load(SAMPLE)
    (ablation,) = open_ablations(model, "/_blocks.11/_swish_1/Clip_output_0", providers="cpu", threads=2)
    image = images(1, size=224)
    assert left(ablation.decomposition(run_of(model, ablation.needed, image), [281, 282, 7])) > 1e-5
