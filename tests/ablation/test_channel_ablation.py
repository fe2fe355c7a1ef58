"""Channel ablation: scores without each channel are those of the whole model with its layer masked, one by one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from helpers import ROOT
from helpers.detectors import CLASSES, SIZE, one_table
from helpers.half_precision import halved
from helpers.layer_models import MODELS, picture, run_of
from helpers.models import GAP_WEIGHTS, C, cnn, images, saved, session, tensors, weight
from helpers.quantised_twins import FLOAT, middle, quantised
from helpers.token_models import token_model
from onnx_xcam.ablation import ChannelAblation, batches, open_ablations
from onnx_xcam.errors import ClassError, InputError, LayerError, ModelError
from onnx_xcam.runtime import Cancellation
from onnx_xcam.surgery.submodels.more_outputs import with_outputs

TOKENS = {
    "class token": ["x1", "patches"],
    "registers behind": ["x1"],
    "register behind alone": ["x1"],
    "no other token": ["x1", "lined"],
    "tokens first": ["x1"],
    "windows and merging": ["x1"],
    "cut by reshapes": ["x1"],
}


def masked(model: onnx.ModelProto, layer: str) -> onnx.ModelProto:
    """The whole model with an input `mask` that its layer is multiplied by."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for at, node in enumerate(graph.node):
        if layer in node.output:
            node.output[list(node.output).index(layer)] = "before_mask"
            graph.node.insert(at + 1, helper.make_node("Mul", ["before_mask", "mask"], [layer]))
            break
    kind = graph.input[0].type.tensor_type.elem_type
    graph.input.append(helper.make_tensor_value_info("mask", kind, None))
    return result


def scores_one_by_one(model: onnx.ModelProto, ablation: ChannelAblation, image: np.ndarray) -> np.ndarray:
    """[number of classes, channels] for the first image: the whole model run once for each channel."""
    made = session(masked(model, ablation.layer))
    a = run_of(model, (ablation.layer,), image)[ablation.layer]
    channel, tokens = ablation.layout.find("C"), ablation.layout.find("T")
    grid = ablation._runner.grid
    found = []
    for c in range(a.shape[channel]):
        mask = np.ones((1, *a.shape[1:]) if ablation.layout[0] == "N" else (a.shape[0], 1, a.shape[2]), image.dtype)
        place = [slice(None)] * a.ndim
        place[channel] = c
        if grid is not None:
            place[tokens] = grid.tokens
        mask[tuple(place)] = 0
        score = made.run(None, {"image": image, "mask": mask})[0].reshape(len(image), -1)[0]
        found.append(np.concatenate([-score, score]) if len(score) == 1 else score)
    return np.array(found).T


def check_layers(model: onnx.ModelProto, layers: list[str], *, tolerance: float = 2e-6) -> list[ChannelAblation]:
    ablations = open_ablations(model, layers, providers="cpu", threads=1)
    image = picture(model)
    for ablation in ablations:
        expected = scores_one_by_one(model, ablation, image)
        values, classes = run_of(model, ablation.needed, image), list(range(len(expected)))
        own = run_of(model, (model.graph.output[0].name,), image)[model.graph.output[0].name]
        own = own.reshape(len(image), -1)[0]
        scale = np.abs(own).max()
        own = np.concatenate([-own, own]) if len(own) == 1 else own
        np.testing.assert_allclose(ablation.scores(values, classes), own, atol=tolerance * scale)
        found = ablation.ablated(values, classes)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=tolerance * scale)
        assert np.ptp(expected, axis=1).max() > 1e-2 * scale, "the channels matter, so that wrong ones would show"
        picked = ablation.ablated(values, classes[::-1][:2])
        np.testing.assert_array_equal(picked, found[::-1][:2])
    return ablations


@pytest.mark.parametrize("case", MODELS)
def test_ablations_are_those_of_the_whole_model(case):
    check_layers(*MODELS[case])


@pytest.mark.parametrize("case", TOKENS)
def test_tokens(case):
    check_layers(token_model(case), TOKENS[case], tolerance=1e-5)


def sizes(model: onnx.ModelProto, layers: list[str]) -> list[int]:
    image = picture(model)
    return [
        ablation._sizes.of(run_of(model, ablation.needed, image))
        for ablation in open_ablations(model, layers, providers="cpu")
    ]


def test_all_channels_go_in_one_run_where_the_part_takes_any_number():
    assert sizes(*MODELS["dense"]) == [4, 4, 3]
    assert sizes(*MODELS["joined"]) == [4, 4, 8]
    assert sizes(*MODELS["lengths of the image"]) == [4, 3]
    assert sizes(token_model("class token"), ["x1"]) == [4]
    assert sizes(*MODELS["a batch of 1"]) == [4, 3], "the number that was exported is not used anywhere"


def test_a_batch_that_was_exported_is_kept_to_where_it_counts():
    assert sizes(*MODELS["a batch of 1 in a Reshape"]) == [1, 1]
    assert sizes(*MODELS["a batch of 4 in a Reshape"]) == [4, 4]


def test_a_part_that_mixes_images_is_found_out():
    """Nothing fails here and the shapes are right, but each image would be compared with the mean of all."""
    mixing = "m = ReduceMean<axes=[0,2,3]>(a)  d = Sub(a, m)  q = Mul(d, d)  p = GlobalAveragePool(q)  f = Flatten(p)"
    model = cnn(mixing + "  logits = Gemm<transB=1>(f, fc, fb)", n=1, weights=GAP_WEIGHTS)
    assert sizes(model, ["a"]) == [1]
    check_layers(model, ["a", "p1"])


def test_a_part_that_mixes_later_images_is_found_out():
    """The first image is by itself; each other one gets what those before it have added up to."""
    text = "zero = Constant<value = int64 {0}>() p = GlobalAveragePool(a) f = Flatten(p) s = CumSum(f, zero)"
    model = cnn(text + "  logits = Gemm<transB=1>(s, fc, fb)", n=1, weights=GAP_WEIGHTS)
    assert sizes(model, ["a"]) == [1]
    check_layers(model, ["a", "p1"])


def test_a_batch_is_compared_with_single_runs(monkeypatch):
    """The planted fault: without the comparison, the model above gives wrong numbers."""
    monkeypatch.setattr(batches.BatchSizes, "_is_good", lambda *_: True)
    with pytest.raises(AssertionError):
        test_a_part_that_mixes_images_is_found_out()


def test_a_batch_is_as_large_as_the_bound_allows(monkeypatch):
    model, layers = MODELS["dense"]
    (ablation,) = open_ablations(model, "p1", providers="cpu")
    values = run_of(model, ablation.needed, images(1))
    each = ablation._sizes.bytes_of_a_mask(values)
    assert each == 4 * 6 * 6 * (4 + 4), "the second Conv and its Relu"
    monkeypatch.setattr("onnx_xcam.runtime.batching.BYTES_OF_MASKS", 2 * 2 * each)
    assert sizes(model, ["p1"]) == [2]
    check_layers(model, layers)


def test_classes_are_checked():
    model, _ = MODELS["gap"]
    (ablation,) = open_ablations(model, "a", providers="cpu")
    values = run_of(model, ablation.needed, images(1))
    for wrong in (-1, C):
        with pytest.raises(ClassError, match=f"Class {wrong} does not exist: the model has the classes 0 to 4"):
            ablation.ablated(values, [wrong])


def test_values_are_checked():
    model, _ = MODELS["joined"]
    (ablation,) = open_ablations(model, "c3", providers="cpu")
    values = run_of(model, ablation.needed, images(1))
    assert ablation.needed == ("c3", "r2", "logits")
    with pytest.raises(InputError, match="The value of 'r2' is needed"):
        ablation.scores({"c3": values["c3"]}, [0])
    with pytest.raises(InputError, match=r"'c3' has the shape \[4,6,6\], not NCHW"):
        ablation.scores({**values, "c3": values["c3"][0]}, [0])


def test_a_part_that_does_not_give_the_models_score_says_so():
    model, _ = MODELS["gap"]
    (ablation,) = open_ablations(model, "p1", providers="cpu")
    values = run_of(model, ablation.needed, images(1))
    values["logits"] = values["logits"] + 0.02 * np.abs(values["logits"]).max()
    with pytest.raises(ModelError, match="gives a score that differs from the model's by"):
        ablation.ablated(values, [1])


def test_runs_can_be_cancelled():
    model, _ = MODELS["dense"]
    (ablation,) = open_ablations(model, "p1", providers="cpu")
    values, ended = run_of(model, ablation.needed, images(1)), Cancellation()
    ablation.ablated(values, [0], ended)
    ended.cancel()
    for call in (ablation.scores, ablation.ablated, ablation.decomposition):
        with pytest.raises(ModelError, match="terminate"):
            call(values, [0], ended)


def test_the_wrong_layer_is_refused_as_by_instrument():
    with pytest.raises(LayerError, match="There is no layer 'b'"):
        open_ablations(cnn("gap"), "b", providers="cpu")


@pytest.mark.parametrize("form", ["qdq", "qdq int8", "qoperator"])
def test_quantised_models(form, tmp_path):
    """The integers are fed, and the ablations are about those of the float model."""
    twin, image = quantised(form, tmp_path), images(1, seed=5)
    (float_ablation,) = open_ablations(FLOAT, "a", providers="cpu")
    expected = float_ablation.ablated(run_of(FLOAT, float_ablation.needed, image), range(C))
    (ablation,) = open_ablations(twin, middle(twin), providers="cpu")
    values = run_of(twin, ablation.needed, image)
    assert [values[name].dtype for name in ablation.needed] == [np.int8 if "int8" in form else np.uint8]
    own = run_of(twin, ("logits",), image)["logits"][0]
    step = np.abs(own).max() / 100
    np.testing.assert_allclose(ablation.scores(values, range(C)), own, atol=step)
    np.testing.assert_allclose(ablation.ablated(values, range(C)), expected, atol=4 * step)
    assert np.abs(expected - own[:, None]).max() > 10 * step


def test_half_precision():
    ablations = check_layers(halved(cnn("dense")), ["a", "p1"], tolerance=5e-3)
    assert [ablation._sizes._by_shape for ablation in ablations] == [{(1, 4, 6, 6): 4}, {(1, 3, 6, 6): 3}]


def test_models_that_onnx_runtime_has_optimised(tmp_path):
    """FusedConv has a convolution and an activation in it; the layer between them is not in the file."""
    act = "r2 = Relu(c2)  c3 = Conv<pads=[1,1,1,1]>(r2, w3)  s3 = Add(c3, r2)  a = Relu(s3)"
    model = cnn("dense", act=act, weights={"w3": (4, 4, 3, 3)})
    optimised = saved(model, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, tmp_path)
    assert any(node.op_type == "FusedConv" for node in optimised.graph.node)
    plain, fused = (open_ablations(one, ["r2", "a"], providers="cpu") for one in (model, optimised))
    image = picture(model)
    for one, other in zip(plain, fused, strict=True):
        expected = one.ablated(run_of(model, one.needed, image), [0, 3])
        np.testing.assert_allclose(other.ablated(run_of(optimised, other.needed, image), [0, 3]), expected, rtol=1e-4)


def test_weights_in_another_file(tmp_path):
    model, layers = MODELS["dense"]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    inside, outside = (open_ablations(one, layers, providers="cpu") for one in (model, tmp_path / "m.onnx"))
    for one, other in zip(inside, outside, strict=True):
        values = run_of(model, one.needed, picture(model))
        np.testing.assert_array_equal(other.ablated(values, [0, 3]), one.ablated(values, [0, 3]))
        np.testing.assert_array_equal(other.decomposition(values, [1]).bias, one.decomposition(values, [1]).bias)


def test_other_inputs_that_reach_the_part_behind_the_layer():
    """One with a row for each image, and one that is for all of them."""
    body = (
        "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  more = Concat<axis=1>(flat, extra)  s = Mul(more, by)"
    )
    model = cnn(
        body + "  logits = Gemm<transB=1>(s, fc, fb)",
        image="float[N,3,12,12] image, float[N,2] extra, float[6] by",
        weights={"fc": (C, 6), "fb": (C,)},
    )
    (ablation,) = open_ablations(model, "a", providers="cpu")
    random = np.random.default_rng(5)
    feeds = {"image": picture(model), "extra": random.normal(size=(1, 2)), "by": random.normal(size=6)}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    a, logits = session(with_outputs(model.SerializeToString(), ["a"])).run(["a", "logits"], feeds)
    values = {**feeds, "a": a, "logits": logits}
    assert set(ablation.needed) == {"a", "extra", "by", "logits"}
    fc = weight(model, "fc")
    drops = fc[:, :4] * feeds["by"][:4] * a[0].mean((1, 2))
    np.testing.assert_allclose(logits[0][:, None] - ablation.ablated(values, range(C)), drops, atol=1e-5)
    assert ablation._sizes.of(values) == 4


MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
from onnx_xcam.ablation import open_ablations
from onnx_xcam.runtime import batching
from helpers.layer_models import run_of
import onnx

def kilobytes(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

path, layer, bound = sys.argv[1], sys.argv[2], int(sys.argv[3])
batching.BYTES_OF_MASKS = bound
model = onnx.load(path)
(ablation,) = open_ablations(model, layer, providers="cpu", threads=1)
values = run_of(model, ablation.needed, np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32))
ablation.scores(values, [0])
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
ablation.ablated(values, [0])
print(kilobytes("VmHWM") - before, ablation._sizes.of(values))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
@pytest.mark.parametrize("layer", ["auto", "/_blocks.11/_swish_1/Clip_output_0"])
def test_a_batch_takes_no_more_memory_than_the_bound(layer):
    sample = ROOT / "sample_models" / "efficientnet_lite0.onnx"
    bound = 192 << 20
    command = [sys.executable, "-c", MEASURED, str(sample), layer, str(bound)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "tests")
    assert done.returncode == 0, done.stderr
    more, size = map(int, done.stdout.split())
    assert size > 100, "large batches, which take most of what they may"
    assert more * 1024 < 1.1 * bound


def test_scores_that_are_not_finite_are_told_from_scores_that_differ():
    found, expected = np.array([1.0, np.inf, np.nan]), np.array([1.5, np.nan, -np.inf])
    assert batches.difference(found, expected) == 0.5
    assert batches.difference(found, np.array([1.0, 2.0, np.nan])) == np.inf
    assert batches.difference(np.array([1.0, 2.0, np.nan]), found) == np.inf
    assert batches.size_of(np.array([-3.0, np.inf])) == 3
    assert batches.size_of(np.array([np.nan, 0.0])) == 1


def test_a_member_of_a_cut_is_ablated_while_the_others_stay():
    model, image = one_table(), images(1, SIZE)
    fine, coarse = open_ablations(model)
    values = tensors(model, ["n4", "n8", "fl4", "fl8"], image)
    behind = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(["n4", "n8"], ["logits"])
    run = session(behind)
    cells = [5 * CLASSES + 1, 17 * CLASSES + 2]  # of a candidate on the fine grid, and of one on the coarse grid
    for ablation, layer in ((fine, "n4"), (coarse, "n8")):
        got = ablation.ablated({name: values[name] for name in ablation.needed if name in values}, cells)
        for channel in range(values[layer].shape[1]):
            cut = values[layer].copy()
            cut[:, channel] = 0
            expected = run.run(["logits"], {"n4": values["n4"], "n8": values["n8"], layer: cut})[0][0]
            np.testing.assert_allclose(got[:, channel], [expected[1, 5], expected[2, 17]], rtol=1e-4, atol=1e-5)
    kept = fine.scores({name: values[name] for name in fine.needed if name in values}, cells)
    of_fine = fine.ablated({name: values[name] for name in fine.needed if name in values}, cells)
    assert (of_fine[1] == kept[1]).all(), (
        "the coarse candidate has nothing of the fine layer but what the coarse one has"
    )
