"""Measure the faithfulness, in the top classes, of maps that know nothing of the model.

    python -m tools.evaluation.baselines sample_models/efficientnet_lite0.onnx FOLDER

One map is random, the other one is the picture's middle. A method's figures in docs/evaluation.md stand beside these.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from onnx_xcam.evaluation.perturbation import METRICS, faithfulness
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images import find_images
from onnx_xcam.images.place import Placement
from tools.common import command_line


def baselines(model: Path, folder: Path) -> None:
    """Print the means and standard deviations of two maps that know nothing."""
    recorder = Recorder(model, methods=["eigen-cam"])
    found = []
    for n, path in enumerate(find_images([folder])):
        picture = recorder.prepare(path)
        ids = recorder.record(picture, recorder.choose(None, 1)).classes.tolist()
        height, width = size = picture.placement.input
        noise = np.random.default_rng(n).normal(size=(7, 7)).astype(np.float32)
        y, x = np.mgrid[:height, :width]
        middle = -np.hypot(y / height - 0.5, x / width - 0.5)
        maps = [Placement(size, size, size).place(noise), np.float32(middle - middle.min())]
        predict = functools.partial(recorder.confidences, class_ids=ids)
        results = faithfulness(predict, picture.item, np.stack(maps), [0, 0], channels_last=recorder.channels_last)
        found.append([[one.metrics[name] for name in METRICS] for one in results])
    table = np.array(found, np.float64)
    for index, name in enumerate(("random", "middle")):
        pairs = zip(METRICS, table[:, index].mean(0), table[:, index].std(0, ddof=1), strict=True)
        print(name, *(f"{metric} {mean:.3f} ± {spread:.3f}" for metric, mean, spread in pairs), sep="  ")


def main() -> None:
    """Read the command line, and print both."""
    parser = command_line.parser("tools.evaluation.baselines", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path, help="of photos")
    options = parser.parse_args()
    baselines(options.model, options.folder)


if __name__ == "__main__":
    main()
