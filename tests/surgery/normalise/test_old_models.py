"""Models of old opsets: raised, so that they give what they gave, and explained as the same net of today."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from typer.testing import CliRunner

from helpers.models import GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, run
from onnx_xcam import Explainer, check, inspect, instrument
from onnx_xcam.cli import app
from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.normalise import normalise as modernise
from onnx_xcam.trials.comparison import compare_raised, output_difference, tolerance

NORM = "BatchNormalization<epsilon=1e-3>(a, scale, bias, mean, var)"
HEAD = "  pooled = GlobalAveragePool(b)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)"
VALUES = {
    "scale": np.array([1.3, 0.8, -0.5, 2.0], np.float32),
    "bias": np.array([0.2, -0.3, 0.1, 0.0], np.float32),
    "mean": np.array([0.1, 0.3, -0.2, 0.4], np.float32),
    "var": np.array([2.0, 0.5, 1.0, 0.3], np.float32),
    "up": np.array([1, 1, 2, 2], np.float32),
    "uneven": np.array([1, 1, 1.5, 2.5], np.float32),
    "down": np.array([1, 1, 0.7, 0.5], np.float32),
    "low": np.array(0.1, np.float32),
    "high": np.array(0.7, np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 2, 0]),
    "fill": np.array(0.3, np.float32),
    "starts": np.array([1, 0]),
    "ends": np.array([9999, 5]),
    "axes": np.array([2, 3]),
    "k": np.array([20]),
    "one": np.array([1]),
    "parts": np.array([1, 3]),
    "wide": np.array([1, 4, 6, 6]),
    "gain": np.array([1.2], np.float32),
}

SLICE = "u = Slice(a, starts, ends, axes)  b = Mul(u, u)"
ASYMMETRIC = 'coordinate_transformation_mode="asymmetric"'
NETS = {
    "batch norm": (7, f"b = {NORM}", f"b = {NORM}"),
    "batch norm, spatial": (7, f"b = {NORM.replace('<', '<spatial=1, ')}", f"b = {NORM}"),
    "dropout": (7, "d = Dropout<ratio=0.5>(a)  b = Mul(d, d)", "b = Mul(a, a)"),
    "dropout with its mask": (7, "d, mask = Dropout<ratio=0.5>(a)  b = Mul(d, d)", "b = Mul(a, a)"),
    "upsample 7": (
        7,
        "u = Upsample<scales=[1.0,1.0,2.0,2.0]>(a)  b = Mul(u, u)",
        f'u = Resize<{ASYMMETRIC}, nearest_mode="floor">(a,,up)  b = Mul(u, u)',
    ),
    "upsample 7, linear": (
        7,
        'u = Upsample<scales=[1.0,1.0,2.0,2.0], mode="linear">(a)  b = Mul(u, u)',
        f'u = Resize<{ASYMMETRIC}, mode="linear">(a,,up)  b = Mul(u, u)',
    ),
    "upsample 9, linear": (
        9,
        'u = Upsample<mode="linear">(a, uneven)  b = Mul(u, u)',
        f'u = Resize<{ASYMMETRIC}, mode="linear">(a,,uneven)  b = Mul(u, u)',
    ),
    "resize 10, nearest, larger": (
        10,
        "u = Resize(a, uneven)  b = Mul(u, u)",
        f'u = Resize<{ASYMMETRIC}, nearest_mode="floor">(a,,uneven)  b = Mul(u, u)',
    ),
    "resize 10, nearest, smaller": (
        10,
        "u = Resize(a, down)  b = Mul(u, u)",
        f'u = Resize<{ASYMMETRIC}, nearest_mode="ceil">(a,,down)  b = Mul(u, u)',
    ),
    "resize 10, linear": (
        10,
        'u = Resize<mode="linear">(a, down)  b = Mul(u, u)',
        f'u = Resize<{ASYMMETRIC}, mode="linear">(a,,down)  b = Mul(u, u)',
    ),
    "pad": (7, "u = Pad<pads=[0,0,1,1,0,0,2,0], value=0.3>(a)  b = Mul(u, u)", "u = Pad(a, pads, fill)  b = Mul(u, u)"),
    "clip": (7, "u = Clip<min=0.1, max=0.7>(a)  b = Mul(u, u)", "u = Clip(a, low, high)  b = Mul(u, u)"),
    "clip without bounds": (7, "u = Clip(a)  b = Mul(u, u)", "b = Mul(a, a)"),
    "slice": (
        7,
        "u = Slice<axes=[2,3], starts=[1,0], ends=[9999,5]>(a)  b = Mul(u, u)",
        SLICE,
    ),
    "slice 10": (10, SLICE, SLICE),
    "squeeze": (
        7,
        "p = GlobalAveragePool(a)  q = Squeeze<axes=[2,3]>(p)  r = Unsqueeze<axes=[2,3]>(q)  b = Mul(r, a)",
        "p = GlobalAveragePool(a)  q = Squeeze(p, axes)  r = Unsqueeze(q, axes)  b = Mul(r, a)",
    ),
    "top k": (
        7,
        "f = Flatten(a)  t, i = TopK<k=20>(f)  s = ReduceSum<axes=[1]>(t)  v = Unsqueeze<axes=[2,3]>(s)  b = Mul(a, v)",
        "f = Flatten(a)  t, i = TopK(f, k)  s = ReduceSum(t, one)  v = Unsqueeze(s, axes)  b = Mul(a, v)",
    ),
    "split": (
        7,
        "l, r = Split<axis=1, split=[1,3]>(a)  m = Concat<axis=1>(r, l)  b = Mul(m, a)",
        "l, r = Split<axis=1>(a, parts)  m = Concat<axis=1>(r, l)  b = Mul(m, a)",
    ),
    "softmax of the last axes": (
        7,
        "s = Softmax<axis=2>(a)  b = Mul(a, s)",
        "t = Constant<value_ints=[0,0,-1]>()  f = Reshape(a, t)  g = Softmax<axis=2>(f)  "
        "h = Shape(a)  s = Reshape(g, h)  b = Mul(a, s)",
    ),
    "expand": (8, "e = Expand(gain, wide)  b = Mul(a, e)", "e = Expand(gain, wide)  b = Mul(a, e)"),
    "average pool": (
        7,
        'p = AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(a)  b = Mul(p, p)',
        'p = AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(a)  b = Mul(p, p)',
    ),
}  # fmt: skip
"""Opset, the net's middle (a -> b) as it was written then, and as it is written at opset 13."""


def net(middle, opset, n, ir=6):
    text = TRUNK + "a = Relu(c2)  " + middle + HEAD
    values = {name: array for name, array in VALUES.items() if re.search(rf"\b{name}\b(?! *=)", text)}
    return build(
        text,
        {**TRUNK_WEIGHTS, **GAP_WEIGHTS, **values},
        inputs=f"float[{n},3,12,12] image",
        outputs=f"float[{n},{C}] logits",
        opset=opset,
        ir=ir,
    )


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("kind", NETS)
def test_an_old_net_is_explained_as_the_same_net_of_today(kind, n, batch):
    opset, then, today = NETS[kind]
    old, new = net(then, opset, n), net(today, 13, n)
    np.testing.assert_allclose(run(old, batch)["logits"], run(new, batch)["logits"], rtol=1e-5, atol=1e-6)
    found = run(instrument(old, layers="a"), batch, [[1, -1, 0]])
    expected = run(instrument(new, layers="a"), batch, [[1, -1, 0]])
    np.testing.assert_array_equal(found["logits"], run(old, batch)["logits"])
    assert np.abs(expected["xcam_map"]).max() > 0
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", NETS)
def test_check_passes_on_an_old_net(kind):
    opset, then, _ = NETS[kind]
    report = check(net(then, opset, 1), layers="a")
    assert report.passed, report.text()


def test_layers_keep_their_names_where_the_converter_renames_them(batch):
    old = net(NETS["upsample 7, linear"][1], 7, "N")
    assert "u" in [layer.name for layer in inspect(old).layers]
    found, default = run(instrument(old, layers="u"), batch), run(instrument(old, layers="a"), batch)
    assert found["xcam_map"].shape == (2, 1, 12, 12)
    np.testing.assert_array_equal(found["logits"], default["logits"])


def test_what_cannot_be_raised_says_so():
    old = net("t = ThresholdedRelu<alpha=0.1>(a)  b = Mul(t, t)", 9, 1)
    with pytest.raises(ModelError, match=r"too old.*could not be raised to opset 11.*ThresholdedRelu.*newer exporter"):
        instrument(old)


def test_what_is_too_large_to_be_raised_says_so(monkeypatch):
    """What protobuf raises above 2 GB, which no test should need."""

    def too_large(*_):
        raise EncodeError("Failed to serialize proto")

    monkeypatch.setattr(modernise.version_converter, "convert_version", too_large)
    with pytest.raises(ModelError, match=r"too old.*could not be raised to opset 11 \(Failed to serialize proto\)"):
        instrument(net("b = Mul(a, a)", 9, 1))


def test_two_opsets_of_one_domain(batch):
    model = net("b = Mul(a, a)", 17, "N")
    model.opset_import.add(domain="ai.onnx", version=17)
    expected = run(instrument(net("b = Mul(a, a)", 17, "N")), batch)
    np.testing.assert_array_equal(run(instrument(model), batch)["xcam_map"], expected["xcam_map"])
    model.opset_import[-1].version = 11
    with pytest.raises(ModelError, match=r"imports the standard ONNX operators twice, opsets 11 and 17; export"):
        instrument(model)


@pytest.mark.parametrize("opset", [9, 17])
def test_nodes_of_the_domains_other_name(opset, batch):
    model = net("b = Mul(a, a)", opset, "N")
    for node in model.graph.node:
        node.domain = "ai.onnx"
    expected = run(instrument(net("b = Mul(a, a)", 17, "N")), batch)
    found = run(instrument(model), batch)
    np.testing.assert_allclose(found["xcam_map"], expected["xcam_map"], rtol=1e-6)


# --- outputs are compared --------------------------------------------------------------------------------------------

RESIZED = "upsample 7, linear"


def explained(model, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer(model, layers="a", preprocess="unit", **options)


@pytest.fixture
def wrongly_raised(monkeypatch):
    """The converter's own Resize, with the defaults of opset 11."""
    monkeypatch.setattr(modernise, "_resize_as_before", lambda *_: None)


@pytest.mark.parametrize("n", [2, "N"])
def test_the_explainer_compares_and_says_so(n):
    old = net(NETS[RESIZED][1], 7, n)
    notes = [note for note in explained(old).notes if "compared" in note]
    assert notes == ["Model: its output before and after it was raised, compared on random numbers: bit-equal."]
    new = net(NETS[RESIZED][2], 13, n)
    assert not any("compared" in note for note in explained(new).notes)


@pytest.mark.usefixtures("wrongly_raised")
def test_a_model_that_is_raised_wrongly_is_not_explained(tmp_path):
    old = net(NETS[RESIZED][1], 7, 2)
    onnx.save(old, tmp_path / "old.onnx")
    said = (
        r"output 'logits' of .* changes by \d\.\de-0\d of its largest value when the opset is raised to 11.*export it"
    )
    for given in (old, tmp_path / "old.onnx"):
        with pytest.raises(ModelError, match=said):
            explained(given)
    report = check(old, layers="a")
    assert not report.passed
    assert [out.passed for out in report.outputs] == [False]
    assert report.outputs[0].difference > 1e-3
    done = CliRunner().invoke(app, ["instrument", str(tmp_path / "old.onnx"), "-o", str(tmp_path / "new.onnx")])
    assert done.exit_code == 1
    assert "changes by" in done.output
    assert not (tmp_path / "new.onnx").exists()


def test_instrument_says_what_was_compared(tmp_path):
    onnx.save(net(NETS[RESIZED][1], 7, "N"), tmp_path / "old.onnx")
    words = ["instrument", str(tmp_path / "old.onnx"), "-o", str(tmp_path / "new.onnx")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert "note: Model: raised from opset 7 to 11." in done.output
    assert "compared on random numbers: bit-equal" in done.output
    program = (
        "import sys; sys.modules['onnxruntime'] = None; sys.argv[0] = 'onnx-xcam'\n"
        "from onnx_xcam.cli import main; main()"
    )
    alone = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert alone.returncode == 0, alone.stderr
    assert "were not compared: ONNX Runtime" in alone.stderr


def test_values_that_are_given_are_used_for_the_comparison():
    """An index that random numbers would put out of range."""
    text = "w = Gather<axis=0>(table, which)  b = Mul(a, w)"
    old = build(
        TRUNK + "a = Relu(c2)  " + text + HEAD,
        {**TRUNK_WEIGHTS, **GAP_WEIGHTS, "table": np.array([1, 2, 3], np.float32)},
        inputs="float[N,3,12,12] image, int64[1] which",
        outputs=f"float[N,{C}] logits",
        opset=9,
        ir=6,
    )
    explainer = explained(old, inputs={"which": 2})
    assert any("bit-equal" in note for note in explainer.notes)
    note = compare_raised(Source(old))
    assert note is not None
    assert "could not be compared on random numbers" in note


def test_several_outputs_and_sequences_are_compared(batch):
    model = net("b = Mul(a, a)", 17, 2)
    found = run(model, batch)["logits"]
    assert output_difference(found, found) == 0
    assert output_difference(found, found + np.float32(1)) > tolerance(found) > 0
    assert output_difference([found, found], [found, found * np.float32(1.01)]) == pytest.approx(0.01, rel=1e-3)
    assert output_difference([found], [found, found]) == np.inf
    assert output_difference({1: found}, {2: found}) == 1
    assert output_difference([{1: 0.5}], [{1: 0.5}]) == 0
    assert output_difference(found, found.astype(np.float64)) == np.inf
    assert output_difference(found, found[:1]) == np.inf
    broken = found.copy()
    broken[0, 0] = np.nan
    assert output_difference(broken, broken) == 0
    assert not output_difference(found, broken) <= tolerance(found)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_growing_on_one_axis_and_shrinking_on_another(mode, batch):
    text = f'u = Resize<mode="{mode}">(a, mixed)  b = Mul(u, u)'
    model = net(text, 10, "N")
    mixed = np.array([1, 1, 0.6, 1.7], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(mixed, "mixed"))
    if mode == "linear":
        assert "bit-equal" in " ".join(explained(model).notes)
        return
    with pytest.raises(ModelError, match=r"Resize \('u'\) that grows on one axis and shrinks on another.*newer opset"):
        instrument(model)


def test_scales_that_are_not_in_the_file(batch):
    text = "s = Shape(a)  f = Cast<to=1>(s)  g = Div(f, f)  sizes = Mul(g, up)  u = Upsample(a, sizes)  b = Mul(u, u)"
    old, known = net(text, 9, "N"), net(NETS["upsample 7"][1], 7, "N")
    notes = " ".join(explained(old).notes)
    assert "'u' (Resize) is taken to enlarge; its scales are not in the file" in notes
    assert "bit-equal" in notes
    found, expected = run(instrument(old), batch, [[0]]), run(instrument(known), batch, [[0]])
    np.testing.assert_allclose(found["xcam_map"], expected["xcam_map"], rtol=1e-5)
