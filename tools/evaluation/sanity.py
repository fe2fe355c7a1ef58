"""Measure how much the maps of every method change as a model's weights are randomised.

This prints the table of docs/ground-truth-and-sanity.md:

    python -m tools.evaluation.sanity MODEL PHOTOS_DIR [--layer L] [--steps 4] [--methods xgrad-cam grad-cam ...]

A line for each method and one for the edges of the photo, which know nothing of the model; a column for each step:
the mean over the photos of the rank correlation with the original map / the same of absolute values. Exit status 1 if
the edges pass, or a method does not.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np

from onnx_xcam.evaluation.sanity import DEFAULT_STEPS, SanityStep, follows_the_model, sanity, summarised
from onnx_xcam.explainer.recording import Recording
from onnx_xcam.images import find_images
from tools.common import command_line

METHODS = ("xgrad-cam", "grad-cam", "hires-cam", "grad-cam++", "layer-cam", "guided-xgrad-cam", "eigen-cam")
EDGES = "edges of the photo"
SIZE = (224, 224)


def edges(recording: Recording) -> np.ndarray:
    """How steep the photo is, [224,224]: a map that looks at the photo only."""
    assert recording.picture.image_rgb is not None
    grey = cv2.cvtColor(recording.picture.image_rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.hypot(*np.gradient(cv2.resize(grey, SIZE)))


def cell(step: SanityStep) -> str:
    """Both rank correlations as text; "-" where no photo has one."""
    values = (step.rank_correlation, step.absolute)
    return " / ".join("-" if value is None else f"{value:.2f}" for value in values)


def main() -> None:
    """Parse the command line, randomise, print the table."""
    parser = command_line.parser("tools.evaluation.sanity", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, help="a folder, or one photo")
    parser.add_argument("--layer", default="auto")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS // 2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--order", default="cascading", choices=("cascading", "independent"))
    options = parser.parse_args()
    start = time.perf_counter()
    records = list(
        sanity(
            options.model,
            find_images([options.photos]),
            methods=options.methods,
            layer=options.layer,
            steps=options.steps,
            seed=options.seed,
            order=options.order,
            others={EDGES: edges},
        )
    )
    rows: dict[str, list[SanityStep]] = {}
    for step in summarised(records):
        rows.setdefault(step.method, []).append(step)
    first = next(iter(rows.values()))
    print("| method | " + " | ".join(f"{step.depth} of {step.of}: `{step.layer}`" for step in first) + " |")
    print("|---" * (len(first) + 1) + "|")
    for method, steps in rows.items():
        print(f"| {method} | " + " | ".join(map(cell, steps)) + " |")
    passed = follows_the_model(records)
    print(f"\n{first[0].photos} photos, {time.perf_counter() - start:.0f} s; changed with the weights: {passed}")
    sys.exit(0 if passed.pop(EDGES) is False and all(passed.values()) else 1)


if __name__ == "__main__":
    main()
