"""A vision task is one place: a task that only this file knows is recognised, explained, listed and ablated.

The task is the mean of a map `[N,1,h,w]`, as in counting people by a map of how many stand where. It is chosen for
being unlike a classifier: its score is no element of the table, and there is nothing to choose.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.models import TRUNK, TRUNK_WEIGHTS, build, cnn, images, run
from onnx_xcam import Explainer, check, contract
from onnx_xcam.errors import LayerError, ScoreError
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.surgery import inspect, instrument
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.randomise import weight_layers
from onnx_xcam.surgery.targets.target import Choice, Evidence, Selection, Target
from onnx_xcam.surgery.targets.tasks import TASKS

H = W = 6


@dataclass(frozen=True, kw_only=True)
class MeanOfMap(Target):
    """S = mean(map), one number for each image, which is class 0."""

    task: ClassVar[str] = "counting"
    only: ClassVar[str] = "Only what is in pictures is counted."
    doubt: ClassVar[str] = "Does it count?"

    @property
    def class_count(self):
        return 1

    def select(self, graph, emitter, choosing):
        means = forward_value(graph, emitter, self.name, "The map").mean([2, 3]).squeeze([2, 3])
        asked = emitter.input(contract.CLASS_INPUT, np.int64, ("xcam_M", "xcam_K"))
        chosen = asked.expand([shapes.dim_part(means, 0), 1], (means.shape[0], asked.shape[1])) * 0
        emitter.define_symbol("xcam_K", chosen, 1)
        scores = means.gather_elements(chosen, 1)
        share = emitter.constant(np.full((1, 1, 1, H, W), 1 / (H * W), np.float32))
        seed = chosen.transpose([1, 0]).unsqueeze([2, 3, 4]).equal(0).cast(np.float32) * share
        outputs = {contract.CLASSES: chosen, contract.SCORES: scores}
        choice = Choice(asked, np.array([[0]], np.int64))
        return Selection(scores=scores, seed=seed, outputs=outputs, inputs=(choice,))

    def table(self, values, images):
        return values.astype(np.float64).reshape(images, -1).mean(1, keepdims=True)


def recognise(evidence: Evidence) -> MeanOfMap:
    """An output `[N,1,h,w]` that is called a density."""
    for name in evidence.graph.output_names:
        shape = evidence.graph.shape(name) or ()
        if name == "density" and len(shape) == 4 and shape[1] == 1:
            notes = (f"Score: the mean of '{name}'.",)
            return MeanOfMap(name=name, public_name=name, shape=shape, batch=0, notes=notes, is_number=True)
    raise ScoreError("No output is a density.")


def counting_model():
    body = TRUNK + "a = Relu(c2)  density = Conv(a, m, o)"
    weights = {**TRUNK_WEIGHTS, "m": (1, 4, 1, 1), "o": (1,)}
    return build(body, weights, outputs=f"float[N,1,{H},{W}] density", seed=2)


@pytest.fixture
def counting(monkeypatch):
    """The package with one more task."""
    monkeypatch.setitem(TASKS, "counting", recognise)
    return counting_model()


def test_without_the_task_the_model_is_refused_for_what_it_is():
    with pytest.raises(ScoreError, match=r"'density' has the shape \[N,1,6,6\] \(a map, as segmentation gives\)"):
        instrument(counting_model())


def test_a_model_of_no_task_is_told_what_each_misses(counting):
    model = build(TRUNK, TRUNK_WEIGHTS, outputs="float[N,4,6,6] c2")
    with pytest.raises(ScoreError, match=r"No class score was found among the outputs: .* No output is a density\."):
        instrument(model)


@pytest.mark.parametrize(
    ("given", "said"),
    [("float[N,36] x", r"'x' float32 \[N,36\], .*\. Only what is in pictures is counted\.$"),
     ("float[N,3,2,6] x", r"'x' float32 \[N,3,2,6\]\. Does it count\?$")],
)  # fmt: skip
def test_why_there_is_no_layer_is_said_in_the_words_of_the_task(counting, given, said):
    model = build("density = Reshape(x, to)", {"to": np.array([-1, 1, H, W])}, inputs=given,
                  outputs=f"float[N,1,{H},{W}] density")  # fmt: skip
    with pytest.raises(LayerError, match=f"^No spatial layer was found: .*{said}"):
        instrument(model)


def test_a_classifier_stays_one(counting):
    assert inspect(cnn("gap")).score == "logits"


def test_the_map_is_that_of_the_mean(counting):
    x = images(3)
    made = instrument(counting, emit=("map", "activations", "gradients", "status"))
    found = run(made, x)
    weights = {tensor.name: tensor for tensor in counting.graph.initializer}
    m = onnx.numpy_helper.to_array(weights["m"]).reshape(1, 4, 1, 1)
    a, g = found["xcam_activations"], found["xcam_gradients"]
    np.testing.assert_allclose(found["xcam_scores"], found["density"].mean((2, 3)), rtol=1e-5)
    np.testing.assert_allclose(g, np.broadcast_to(m[:, None] / (H * W), g.shape), rtol=1e-5)
    np.testing.assert_allclose(found["xcam_map"][:, 0], np.maximum((m / (H * W) * a).sum(1), 0), rtol=1e-4, atol=1e-7)
    assert found["xcam_classes"].tolist() == [[0]] * 3
    assert set(found["xcam_status"].ravel()) <= {contract.GOOD, contract.MAP_ZERO}
    assert [value.name for value in made.graph.input] == ["image", "xcam_class"]
    assert onnx.numpy_helper.to_array(made.graph.initializer[-1]).tolist() == [[0]], "its own default"


def test_what_is_told_of_it_is_its_own(counting):
    report = inspect(counting)
    assert (report.score, report.classes) == ("density", 1)
    assert "Score: the mean of 'density'." in report.notes
    assert [layer.name for layer in report.layers if layer.default] == ["a"]
    assert [layer.name for layer in weight_layers(counting)] == ["density", "c2", "c1"]


def test_an_explainer_explains_it(counting):
    explanation = Explainer(counting, providers="cpu", preprocess="raw").explain(images(1))
    np.testing.assert_allclose(explanation.scores, run(counting, images(1))["density"].mean((2, 3)), rtol=1e-5)
    assert explanation.maps.shape == (1, 1, H, W)


def test_check_proves_it(counting):
    report = check(counting)
    assert report.passed, report.text()
    assert report.layers[0].slope is not None


def test_channels_are_ablated_and_the_score_is_decomposed(counting):
    recorder = Recorder(
        counting, methods=["xgrad-cam", "ablation-cam"], ablations=True, providers="cpu", preprocess="raw"
    )
    (picture,) = recorder.model.pictures(images(1))
    (layer,) = recorder.record(picture, None).layers
    m = next(onnx.numpy_helper.to_array(t) for t in counting.graph.initializer if t.name == "m").reshape(4)
    score = run(counting, images(1))["density"].mean()
    without = score - (m * layer.activations[0].mean((1, 2)))
    np.testing.assert_allclose(layer.ablate()[0], without, rtol=1e-4, atol=1e-6)
    balance = layer.split()
    bias = next(onnx.numpy_helper.to_array(t) for t in counting.graph.initializer if t.name == "o")
    np.testing.assert_allclose(balance.bias, bias, rtol=1e-5)


# --- nobody else knows a task ----------------------------------------------------------------------------------------

SURGERY = Path(onnx_xcam.surgery.__file__).parent


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def tasks() -> Sequence[str]:
    """The modules and folders of tasks, by what `tasks.py` names."""
    return [f"onnx_xcam.surgery.targets.{name}" for name in TASKS]


def test_only_the_list_of_tasks_imports_a_task():
    for path in sorted(SURGERY.rglob("*.py")):
        own = "targets" in path.parts and not TASKS.keys().isdisjoint(path.parts)
        if own or path.name == "tasks.py":
            continue
        for module in imported(path):
            assert not module.startswith(tuple(tasks())), f"{path.relative_to(SURGERY)} imports {module}"
