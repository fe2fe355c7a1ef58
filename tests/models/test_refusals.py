"""What a model that cannot be explained is told: the cause, where it is, and what to do; never a guess at damage."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, cnn
from onnx_xcam import Explainer, contract, inspect, instrument
from onnx_xcam.errors import InputError, LayerError, ModelError, UnsupportedOpError, XcamError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.runtime import open_session
from onnx_xcam.surgery.analysis.foreign_operators import foreign_operators

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

WEIGHTS = {**TRUNK_WEIGHTS, **GAP_WEIGHTS}
NET = TRUNK + "a = Relu(c2) "
HEAD = "pooled = GlobalAveragePool({})  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)"


def behind(node, domain="", **more):
    """A classifier with a node between its last feature map `a` and the head, which reads `q`."""
    imports = f', "{domain}" : 1' if domain else ""
    return build(f"{NET} {node} {HEAD.format('q')}", WEIGHTS, imports=imports, **more)


def before(node, domain="", **more):
    """The same with a node before the first convolution."""
    imports = f', "{domain}" : 1' if domain else ""
    text = TRUNK.replace("(image", "(q")
    return build(f"{node} {text} a = Relu(c2) {GAP}", WEIGHTS, imports=imports, **more)


# --- operators that are not ONNX's -----------------------------------------------------------------------------------

FOREIGN = {
    "onnx.brevitas": ("BipolarQuant", "a quantiser of Brevitas or QONNX; export the model as QDQ"),
    "qonnx.custom_op.general": ("Trunc2", "a quantiser of Brevitas or QONNX; export the model as QDQ"),
    "tf": ("TFL_Thing", "a custom operator of TensorFlow; convert the model with standard operators only"),
    "org.pytorch.aten": ("ATen", "left as it is; export the model again without the ATen fallback"),
    "TRT": ("DCNv2_TRT", "a plugin of TensorRT or MMDeploy; export the model for ONNX Runtime"),
    "mmdeploy": ("MMCVRoiAlign", "a plugin of TensorRT or MMDeploy; export the model for ONNX Runtime"),
    "ai.onnx.contrib": ("DecodeImage", "an operator of onnxruntime-extensions, .* use the model from before"),
    "my.own": ("Magic", "a custom operator of the domain my.own; export the model without it"),
}


@pytest.mark.parametrize(("domain", "op", "advice"), [(domain, *rest) for domain, rest in FOREIGN.items()], ids=FOREIGN)
def test_an_operator_of_another_domain_is_named(domain, op, advice):
    with pytest.raises(
        UnsupportedOpError, match=rf"{domain}\.{op}: 'q'\. .*{domain}\.{op} is no operator of ONNX.*{advice}"
    ) as caught:
        instrument(behind(f"q = {domain}.{op}(a)", domain))
    assert "--method" not in str(caught.value)  # no method runs what ONNX Runtime has not
    with pytest.raises(LayerError, match=rf"axes cannot be followed.* {domain}\.{op} \('q'\), .*{advice}"):
        instrument(before(f"q = {domain}.{op}(image)", domain))
    with pytest.raises(
        ModelError, match=rf"cannot be loaded by ONNX Runtime .* no operator {domain}\.{op}, .*{advice}"
    ):
        Explainer(behind(f"q = {domain}.{op}(a)", domain), method="eigen-cam", preprocess="unit")
    assert any(f"{domain}.{op} ('q')" in note for note in inspect(before(f"q = {domain}.{op}(image)", domain)).notes)


@pytest.mark.parametrize("op", ["TFL_Thing", "TRTBatchedNMS", "ATen", "Nonsense"])
def test_an_unknown_operator_of_the_standard_domain(op):
    for model, error in ((behind(f"q = {op}(a)"), UnsupportedOpError), (before(f"q = {op}(image)"), LayerError)):
        with pytest.raises(error, match=rf"{op}.*(custom operator|plugin|PyTorch)"):
            instrument(model)
    with pytest.raises(ModelError, match=rf"has no operator {op}, "):
        open_session(behind(f"q = {op}(a)").SerializeToString(), providers="cpu")


REMOVED = {
    "ImageScaler<scale=1.0, bias=[1.0,2.0,3.0]>": "Mul and Add",
    "Crop<border=[1,1,1,1]>": "Slice",
    "Affine<alpha=2.0, beta=1.0>": "Mul and Add",
    "ParametricSoftplus<alpha=2.0, beta=1.0>": "Mul and Softplus",
    "ScaledTanh<alpha=2.0, beta=1.0>": "Mul and Tanh",
    "ThresholdedRelu<alpha=1.0>": "that of opset 10",
}


@pytest.mark.parametrize(("call", "instead"), REMOVED.items(), ids=lambda text: text.split("<")[0])
def test_an_operator_that_onnx_removed(call, instead):
    op = call.split("<")[0]
    model = before(f"q = {call}(image)", opset=8, ir=3, inputs="float[1,3,12,12] image", outputs=f"float[1,{C}] logits")
    with pytest.raises(
        ModelError, match=rf"{op} \('q'\), an experiment of old ONNX versions; put {instead} in"
    ) as caught:
        instrument(model)
    assert "convert" not in str(caught.value)
    assert "/" not in str(caught.value)


def test_the_converter_is_quoted_without_its_source():
    text = f"{NET} q = Upsample<height_scale=2.0, width_scale=2.0>(a) {HEAD.format('q')}"
    model = build(text, WEIGHTS, opset=1, ir=3, inputs="float[1,3,12,12] image", outputs=f"float[1,{C}] logits")
    with pytest.raises(ModelError, match=r"opset 11 \(Upsample in opset 1 supports only 4D input tensor\)"):
        instrument(model)


def test_operators_are_found_wherever_they_are():
    model = build(
        "y = If (c) < then_branch = t () => (float[N] u) { u = my.Odd(x) }, "
        "else_branch = e () => (float[N] v) { v = own.F(x) } >",
        inputs="float[N] x, bool c",
        outputs="float[N] y",
        imports=', "my" : 1, "own" : 1',
        functions='<opset_import: ["" : 17, "my" : 1], domain: "own"> F (a) => (b) { b = my.Even(a) }',
    )
    assert set(foreign_operators(model).nodes) == {("my", "Odd"), ("my", "Even")}


# --- operators without a gradient ------------------------------------------------------------------------------------

RECURRENT = {
    "LSTM": ("hs, hn, cn = LSTM<hidden_size=6>(t, lw, lr)", 24),
    "GRU": ("hs, hn = GRU<hidden_size=6>(t, lw, lr)", 18),
    "RNN": ("hs, hn = RNN<hidden_size=6>(t, lw, lr)", 6),
}


def recurrent(op):
    """Columns of the feature map, one after the other, through a recurrent layer."""
    call, rows = RECURRENT[op]
    text = f"{NET} m = ReduceMean<axes=[2], keepdims=0>(a) t = Transpose<perm=[2,0,1]>(m) {call} "
    text += "zero = Constant<value=int64[1]{0}>() z = Squeeze(hn, zero) logits = Gemm<transB=1>(z, fc, fb)"
    return build(text, {**TRUNK_WEIGHTS, "fc": (C, 6), "fb": (C,), "lw": (1, rows, 4), "lr": (1, rows, 6)})


@pytest.mark.parametrize("op", RECURRENT)
def test_the_methods_that_are_named_run(op):
    """And an ablated channel is one that is zero: the recurrent part has its batch on another axis."""
    with pytest.raises(
        UnsupportedOpError, match=rf"{op}: 'hs'.*need no gradient: --method ([\w-]+), ([\w-]+) or ([\w-]+)\."
    ) as caught:
        Explainer(recurrent(op), preprocess="unit")
    named = str(caught.value).split("--method ")[1].removesuffix(".").replace(" or ", ", ").split(", ")
    photo = np.random.default_rng(3).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    for name in named:
        found = Explainer(recurrent(op), method=name, preprocess="unit", relu=False).explain(photo, [1])
        assert found.maps_of(0).any()
    recorder = Recorder(recurrent(op), methods=["ablation-cam"], preprocess="unit")
    record = recorder.record(recorder.prepare(photo), Cells(np.array([[1]])))
    (layer,) = record.layers
    without = layer.ablate()
    whole = without_channels(recurrent(op), layer.activations)
    np.testing.assert_allclose(without.reshape(-1), whole, rtol=1e-4, atol=1e-6)


def without_channels(model, activations):
    """The score of class 1 without each channel of `a`, from a model of the nodes behind it."""
    nodes = model.graph.node
    start = next(i for i, node in enumerate(nodes) if node.output[0] == "a") + 1
    a = onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["N", 4, 6, 6])
    graph = onnx.helper.make_graph(
        list(nodes)[start:], "behind_layer", [a], model.graph.output, model.graph.initializer
    )
    behind = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    opened = open_session(behind.SerializeToString(), providers="cpu")
    scores = []
    for channel in range(4):
        copy = activations.copy()
        copy[:, channel] = 0
        scores.append(opened.run({"a": copy}, ["logits"])["logits"][0, 1])
    return scores


# --- what is no picture ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        (("N", 1, 16, 32, 32), "float32", "volumes [N,C,D,H,W]"),
        (("N", 4, "D", "H", "W"), "float32", "volumes [N,C,D,H,W]"),
        (("N", 8, 3, 32, 32), "float32", "videos [N,T,C,H,W]"),
        (("N", 3, 8, 32, 32), "float32", "videos [N,C,T,H,W]"),
        (("N", 8, 32, 32, 3), "uint8", "videos [N,T,H,W,C]"),
        (("N", 2, 1000), "float32", "signals or sequences [N,C,L]"),
        (("N", "T", 40), "float32", "signals or sequences [N,C,L]"),
        (("N", 16000), "float32", "rows of numbers [N,F]: a table, a signal, or pictures laid flat"),
        (("N", "L"), "int64", "whole numbers, as tokens of a text are"),
        (("L",), "uint8", "the bytes of an encoded picture"),
        (("N",), "string", "texts, or pictures that are still encoded"),
        ((32, 32, 3), "float32", "a picture without the axis of images"),
        ((3, 32, 32), "uint8", "a picture without the axis of images"),
        ((28, 28), "float32", "a picture without axes of images and channels"),
        (("N", 28, 28), "float32", "pictures without the axis of channels"),
        (("N", 13, 64, 64), "float32", "pictures of 13 channels"),
        (("N", 64, 64, 6), "float32", "pictures of 6 channels"),
        (("N", "H", "W", 3), "float32", None),
        ((1, 3, 224, 224), "uint8", None),
    ],
)
def test_what_an_input_takes(shape, kind, said):
    assert contract.input_kind(shape, kind) == said


VOLUMES = {
    "volumes [N,C,D,H,W]": ("c = Conv<pads=[1,1,1,1,1,1]>(x, w, b)", (4, 1, 3, 3, 3), "float[N,1,8,12,12] x"),
    "signals or sequences [N,C,L]": ("c = Conv<pads=[1,1]>(x, w, b)", (4, 2, 3), "float[N,2,100] x"),
}


@pytest.mark.parametrize(("said", "parts"), VOLUMES.items(), ids=VOLUMES)
def test_what_is_no_picture_is_said(said, parts):
    conv, weight, inputs = parts
    model = build(f"{conv} a = Relu(c) {GAP}", {**GAP_WEIGHTS, "w": weight, "b": (4,)}, inputs=inputs)
    for call in (instrument, Explainer, onnx_xcam.check):
        with pytest.raises(
            LayerError, match=rf"the model takes 'x' float32 .*, {re.escape(said)}\. Only classifiers of"
        ):
            call(model)


@pytest.mark.parametrize("images", ["N", "1"])
def test_frames_of_a_video_are_not_explained_as_if_they_were_images(images):
    """Their convolution is that of pictures, but the batch of its layers is not that of the answers."""
    text = f"""
      frames = Constant<value=int64[4]{{-1, 3, 12, 12}}>()  image = Reshape(video, frames)  {TRUNK} a = Relu(c2)
      pooled = GlobalAveragePool(a)  apart = Constant<value=int64[3]{{-1, 4, {WEIGHTS["fc"][1]}}}>()
      each = Reshape(pooled, apart)  flat = ReduceMean<axes=[1], keepdims=0>(each)
      logits = Gemm<transB=1>(flat, fc, fb)
    """
    inputs, outputs = f"float[{images},4,3,12,12] video", f"float[{images},{C}] logits"
    model = build(text, WEIGHTS, inputs=inputs, outputs=outputs)
    asked = lambda model: instrument(model, layers="a")  # noqa: E731
    for call in (instrument, asked, Explainer, onnx_xcam.check):
        with pytest.raises(LayerError, match=r"takes 'video' float32 .*, videos \[N,T,C,H,W\]\. Only classifiers"):
            call(model)
    assert not inspect(model).layers


def test_an_operator_of_another_domain_is_named_inside_a_branch_too():
    branches = "then_branch = g1() => (float[N,6,12,12] t) { t = my.own.Swirl(a) }"
    branches += ", else_branch = g2() => (float[N,6,12,12] e) { e = Relu(a) }"
    node = "most = ReduceMax<keepdims=0>(a) zero = Constant<value_float=0.0>() k = Greater(most, zero)"
    model = behind(f"{node} q = If(k)<{branches}>", "my.own")
    with pytest.raises(UnsupportedOpError, match=r"my\.own\.Swirl is no operator of ONNX but a custom operator of"):
        instrument(model)
    with pytest.raises(ModelError, match=r"it has no operator my\.own\.Swirl, a custom operator of the domain my\.own"):
        open_session(model.SerializeToString())


def test_a_picture_without_an_axis_is_told_what_to_do():
    text = (
        "axis = Constant<value=int64[1]{0}>() p = Transpose<perm=[2,0,1]>(image) q = Unsqueeze(p, axis) "
        + TRUNK.replace("(image", "(q")
        + "a = Relu(c2) "
    )
    model = build(text + GAP, WEIGHTS, inputs="float[12,12,3] image", outputs=f"float[1,{C}] logits")
    with pytest.raises(
        InputError, match=r"'image' \(float32 \[12,12,3\]\), a picture without the axis of images. Export it for"
    ):
        Explainer(model, preprocess="unit")


def test_formulas_of_symbols_are_cut():
    formula = "3*floor(floor(H/2 - 1/2)/2 + 1/2)*floor(floor(W/2 - 1/2)/2 + 1/2) + 12*floor(H/16)"
    assert contract.shape_text(("N", formula, 4)) == "[N,3*floor(floor(H/2 - 1/2…,4]"
    assert contract.shape_text(("batch_size", "unk__1292")) == "[batch_size,?]", "an invented symbol says nothing"


# --- one answer for all images of a run ------------------------------------------------------------------------------

GEMM = "logits = Gemm<transB=1>"
FOLDS = {
    "mean of scores": ("g = Gemm<transB=1>(flat, fc, fb) logits = ReduceMean<axes=[0], keepdims=1>(g)", f"1,{C}"),
    "without an axis": ("g = Gemm<transB=1>(flat, fc, fb) logits = ReduceMean<axes=[0], keepdims=0>(g)", f"{C}"),
    "best features": (f"e = ReduceMax<axes=[0], keepdims=1>(flat) {GEMM}(e, fc, fb)", f"1,{C}"),
    "attention": (
        f"s = MatMul(flat, aw) st = Transpose(s) p = Softmax<axis=1>(st) e = MatMul(p, flat) {GEMM}(e, fc, fb)",
        f"1,{C}",
    ),
}


def folding(kind, n="N"):
    text, shape = FOLDS[kind]
    start = f"{NET} pooled = GlobalAveragePool(a) flat = Flatten(pooled) "
    return build(
        start + text, {**WEIGHTS, "aw": (4, 1)}, inputs=f"float[{n},3,12,12] image", outputs=f"float[{shape}] logits"
    )


@pytest.mark.parametrize("kind", FOLDS)
def test_each_image_is_run_alone(kind, batch):
    model = folding(kind)
    for given in (model, instrument(model)):
        explainer = Explainer(given, preprocess="unit")
        assert sum("is one answer for all images of a run" in note for note in explainer.notes) == 1
        found = explainer.explain(batch, [1, -1])
        alone = [explainer.explain(batch[n : n + 1], [1, -1]) for n in range(len(batch))]
        np.testing.assert_array_equal(found.scores, np.concatenate([one.scores for one in alone]))
        np.testing.assert_array_equal(found.maps_of(0), np.concatenate([one.maps_of(0) for one in alone]))
        assert not np.array_equal(found.scores[0], found.scores[1])


def test_masks_of_a_folding_model_are_run_alone():
    model = folding("mean of scores")
    photo = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    plain = build(f"{NET} {GAP}", WEIGHTS)
    for method in ("score-cam", "ablation-cam"):
        ours = Explainer(model, method=method, preprocess="unit").explain(photo, [1])
        theirs = Explainer(plain, method=method, preprocess="unit").explain(photo, [1])
        np.testing.assert_allclose(ours.maps_of(0), theirs.maps_of(0), rtol=1e-4, atol=1e-6)


def test_a_fixed_number_of_crops_is_refused():
    with pytest.raises(
        InputError, match=r"takes 10 images at once and makes one answer of them.*not supported; export it"
    ):
        Explainer(folding("mean of scores", 10), preprocess="unit")
    assert not any("one answer" in note for note in Explainer(folding("mean of scores", 1), preprocess="unit").notes)


def test_a_reshape_to_groups_of_images_is_named():
    """How many images a group has is written in a Reshape alone, and ONNX Runtime finds it there."""
    text = TRUNK + "a = Relu(c2)  " + GAP.replace("logits", "each") + "  s = Constant<value_ints=[-1,10,5]>()  "
    model = build(text + "r = Reshape(each, s)  logits = ReduceMean<axes=[1], keepdims=0>(r)",
                  {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, outputs=f"float[n,{C}] logits")  # fmt: skip
    said = (
        r"Reshape.* cannot make \[-1,10,5\] of \[1,5\]: it is made for .* crops or frames are, which are not supported"
    )
    with pytest.warns(UserWarning), pytest.raises(ModelError, match=said):
        Explainer(model).explain(np.zeros((12, 12, 3), np.uint8))


def test_no_plain_model_is_told_that_it_is_not_instrumented(batch):
    """A file of before, whose outputs do not tell that its batch is folded."""
    made = instrument(folding("mean of scores"))
    for output in made.graph.output:
        if output.name.startswith("xcam"):
            output.type.tensor_type.shape.dim[0].dim_param = "M"
    with pytest.raises(XcamError, match=r"gives 1 answer for 2 images of a run.*explain one image at a time"):
        Explainer(made, preprocess="unit").explain(batch)
    assert Explainer(made, preprocess="unit").explain(batch[:1]).scores.shape == (1, 1)


def test_an_operator_of_another_framework_is_named_though_its_attributes_are_no_text():
    """tf2onnx leaves TensorFlow's own operators as they are where it has no conversion, with attributes of bytes."""
    model = cnn("dense")
    call = onnx.helper.make_node(
        "StatefulPartitionedCall", ["logits"], ["z"], name="call", config_proto=b"\x0a\x82\x01"
    )
    model.graph.node.append(call)
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["N", 5]))
    with pytest.raises(ModelError, match=r"not ONNX's: StatefulPartitionedCall \('call'\)"):
        inspect(model)
