"""Measure the axioms on real photos, and what all ablations of a layer cost.

    python -m tools.evaluation.axioms sample_models/efficientnet_lite0.onnx
    python -m tools.evaluation.axioms model.onnx --photos FOLDER --top 3 --layer layer3 --layer layer4
    python -m tools.evaluation.axioms model.onnx --timing-only --seconds 20

For each layer (the default one and three before it, unless named) and method the median over photos and classes of the
errors that docs/axioms.md defines. Ablation-CAM's own weights are those of its paper; "the ablations themselves" are
shares that are S - S(without k): no method can be nearer to the axiom of sensitivity. Timings are taken in turns: all K
ablations on the part behind the layer, against a forward run of the whole model, times K. None of them is a test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import onnx_xcam
from onnx_xcam.benchmark.timing import in_turns
from onnx_xcam.evaluation.axioms import AxiomErrors, axiom_errors, beside, errors_of
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import LayerRecord, Recording
from tools.common import command_line
from tools.common.folders import PHOTOS
from tools.common.tables import in_markdown, taken_on

METHODS = ("xgrad-cam", "grad-cam", "grad-cam++", "layer-cam", "ablation-cam")
REFERENCE = "the ablations themselves"
EARLIER = 3


def main() -> None:
    """Measure each model that the command line names, and print its tables."""
    parser = command_line.parser("tools.evaluation.axioms", __doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a folder")
    parser.add_argument("--count", type=int, help="of photos, at most")
    parser.add_argument("--top", type=int, default=2, help="best classes of each photo")
    parser.add_argument("--layer", action="append", help="instead of the default one and three before it")
    parser.add_argument("--method", action="append", help=f"instead of {', '.join(METHODS)}")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seconds", type=float, default=5, help="for each timing")
    parser.add_argument("--timing-only", action="store_true")
    options = parser.parse_args()
    print(taken_on(), end="\n\n")
    for model in options.models:
        layers = options.layer or default_and_earlier(model)
        methods = tuple(options.method or METHODS)
        recorder = Recorder(model, layers, methods=methods, ablations=True, threads=options.threads)
        photos = sorted(path for path in options.photos.iterdir() if path.is_file())[: options.count]
        print(f"## {model.stem}\n")
        if not options.timing_only:
            print(errors_table(recorder, photos, methods, options.top))
        print(timing_table(recorder, photos[0], options.seconds))


def default_and_earlier(model: Path) -> list[str]:
    """The default layer, and three of the bottleneck layers before it at equal distances."""
    layers = onnx_xcam.inspect(model).layers
    last = next(i for i, layer in enumerate(layers) if layer.default)
    return [layers[last * (EARLIER + 1 - back) // (EARLIER + 1)].name for back in range(EARLIER + 1)]


# --- errors -----------------------------------------------------------------------------------------------------------


def errors_table(recorder: Recorder, photos: Sequence[Path], methods: Sequence[str], top: int) -> str:
    """The median errors of each layer and method, as a table."""
    found: dict[tuple[str, str], list[AxiomErrors]] = {}
    spread: dict[str, list[float]] = {}
    for photo in photos:
        recording = recorder.record(recorder.prepare(photo), recorder.choose(None, top))
        for layer in recording.layers:
            spread.setdefault(layer.name, []).append(variation(layer))
            for method in methods:
                found.setdefault((layer.name, method), []).append(errors_of(layer, method))
            reference = axiom_errors(layer.scores, layer.scores[:, None] - layer.ablated, layer.ablated, beside(layer))
            found.setdefault((layer.name, REFERENCE), []).append(reference)
    rows = []
    for (name, method), errors in found.items():
        numbers = [median(errors, field) for field in FIELDS]
        nearer = [wins(found[name, methods[0]], errors, field) for field in ("conservation", "sensitivity")]
        last = "-" if method == methods[0] else ", ".join(nearer)
        rows.append([f"`{name}`", f"{np.median(spread[name]):.2f}", method, *numbers, last])
    head = ["layer", "G varies", "method", *FIELDS.values(), f"{methods[0]} is nearer: conservation, sensitivity"]
    return f"{len(photos)} photos, {top} classes of each\n\n{in_markdown(head, rows)}"


FIELDS = {
    "conservation": "conservation",
    "unexplained": "without biases",
    "gap": "gap",
    "sensitivity": "sensitivity",
    "scaled_sensitivity": "sensitivity, scaled",
    "scaled_conservation": "conservation, scaled",
}


def median(errors: Sequence[AxiomErrors], field: str) -> str:
    """The median over all photos and classes, as text."""
    values = [getattr(one, field) for one in errors]
    return "-" if any(value is None for value in values) else f"{np.median(np.concatenate(values)):.3g}"


def wins(ours: Sequence[AxiomErrors], theirs: Sequence[AxiomErrors], field: str) -> str:
    """For how many photos and classes the first errors are below the others, as text."""
    pairs = [np.concatenate([getattr(one, field) for one in errors]) for errors in (ours, theirs)]
    return f"{np.mean(pairs[0] < pairs[1]):.0%}"


def variation(layer: LayerRecord) -> float:
    """How much the gradient varies over space: 0 where it is constant, 1 where its mean is 0, in every channel."""
    G = layer.G.astype(np.float64)
    every = (G**2).sum()
    return max(0.0, 1 - float((G.mean(-1) ** 2).sum() * G.shape[-1] / every)) if every else 0.0


# --- timings ----------------------------------------------------------------------------------------------------------


def timing_table(recorder: Recorder, photo: Path, seconds: float) -> str:
    """What all ablations of each layer cost, against as many forward runs, as a table."""
    picture = recorder.prepare(photo)
    recording = recorder.record(picture, recorder.choose(None, 1))
    rows = []
    for layer in recording.layers:
        channels = layer.A.shape[0]
        ablate = layer.ablate
        assert ablate is not None
        calls = {"forward": forward_of(recorder, recording), "ablations": ablate}
        times = in_turns(calls, seconds, least=5)
        forward, ablations = times.spread("forward").median, times.spread("ablations").median
        ratio = times.ratio("ablations", "forward").scaled(1 / channels)
        rows.append(
            [
                f"`{layer.name}`",
                str(channels),
                f"{ablations * 1e3:.0f} ms",
                f"{forward * 1e3:.1f} ms",
                f"1/{1 / ratio.median:.3g} (1/{1 / ratio.high:.3g} to 1/{1 / ratio.low:.3g})",
            ]
        )
    head = ["layer", "channels K", "all K ablations", "one forward run", "ablations / K forward runs"]
    return in_markdown(head, rows)


def forward_of(recorder: Recorder, recording: Recording) -> Callable[[], object]:
    """A forward run of the plain model on the recording's image."""
    batch = recording.picture.item[None]
    return lambda: recorder.confidences(batch, recording.cells)


if __name__ == "__main__":
    main()
