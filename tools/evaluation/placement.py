"""Compare ways to place XGrad-CAM's shares, by the metrics of `evaluate`: the tables of docs/methods.md.

    python -m tools.evaluation.placement classifier sample_models/efficientnet_lite0.onnx PHOTOS --layer LAYER ...
    python -m tools.evaluation.placement detector DETECTOR.onnx PICTURES --layer LAYER ...

A classifier is asked about pictures with exact masks, which are made of PHOTOS: an object is cut out of a photo by
GrabCut within its box of `foolbox_boxes.json`, made smaller, and pasted into another photo, at random. What counts is
the class that the model sees in it, where that has a probability above 0.3, and below a tenth of that without the
object. `tools.evaluation.real_models` unpacks photos.

A detector is asked about the objects that it keeps. With --truth (boxes by picture, in a format of `evaluate --truth`)
these are the ones that lie on a true box by an IoU above 0.5, each true box once, and the other true boxes are where
nothing should be. Without it the boxes are those that the detector tells, three at most of a picture, and kept boxes
that overlap by more than 0.3 may be one object. PICTURES are made to fit the input with their proportions, as RGB
divided by 255. The layer "cut" stands for the layers of the cut, whose maps are added up. The box itself and a Gaussian
in it are measured beside the maps.

Columns: insertion and deletion (8 steps); energy inside the object; how often the largest value is inside it, without a
margin; of the energy in objects, the part in others.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import onnx_xcam
from onnx_xcam.cams.layout import lined_up
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.evaluation.annotations import read_annotations
from onnx_xcam.evaluation.perturbation import faithfulness
from onnx_xcam.evaluation.truth import energy_inside, pointing_game
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images import find_images, read_image
from onnx_xcam.metadata import Metadata
from tools.common import command_line, tables
from tools.common.sessions import session
from tools.evaluation.placements import PLACEMENTS, placed

OTHERS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "HiResCAM": lambda a, g: (g * a).sum(0),
    "LayerCAM": lambda a, g: (np.maximum(g, 0) * a).sum(0),
    "Grad-CAM": lambda a, g: (g.mean(-1, keepdims=True) * a).sum(0),
}
"""Methods to compare with: the map before the ReLU, [S], of A and G [C,S]."""
COLUMNS = ("insertion", "deletion", "energy", "peak", "on others")
LEAST, BEFORE = 0.3, 0.1
OBJECTS = 3
SAME, FOUND = 0.3, 0.5
STEPS = 8


@dataclass
class Layer:
    """What a map of one layer is made of: A and G `[C,S]`, height and width."""

    activations: np.ndarray
    gradients: np.ndarray
    size: tuple[int, int]


@dataclass
class Case:
    """One score of one picture, with its truth.

    Attributes:
        item: the picture as the model takes it, [C,H,W].
        predict: the probability of what is explained, [B,1] of pictures [B,C,H,W].
        layers: by name; several for a cut.
        inside: the object's pixels, [H,W].
        others: the pixels of other objects, [H,W].
        baselines: maps that know the truth, [H,W], by name.
    """

    item: np.ndarray
    predict: Callable[[np.ndarray], np.ndarray]
    layers: dict[str, list[Layer]]
    inside: np.ndarray
    others: np.ndarray | None = None
    baselines: dict[str, np.ndarray] = field(default_factory=dict)


def layers_of(results: Mapping[str, np.ndarray], made: Any, names: Sequence[str]) -> list[Layer]:
    """The layers of an instrumented model's first image and first score, in order."""
    metadata = Metadata.from_props({one.key: one.value for one in made.metadata_props}, "the model")
    found = []
    for index in range(len(names)):
        end = f"_{index}" if index else ""
        a, g = (results[f"xcam_{kind}{end}"] for kind in ("activations", "gradients"))
        layout, grid = metadata.layout(index), metadata.grid(index)
        at = layout.find("H") if grid is None else -1
        size = a.shape[at : at + 2] if grid is None else (grid.height, grid.width)
        lined, slopes = lined_up(a.astype(np.float64), g.astype(np.float64), layout, grid)
        found.append(Layer(lined[0], slopes[0, 0], size))
    return found


# --- classifiers -----------------------------------------------------------------------------------------------------


def cut_out(image: np.ndarray, box: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo within a box, and which of its pixels GrabCut takes for the object."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box[0], box[1], min(box[2], width), min(box[3], height)
    marks = np.zeros((height, width), np.uint8)
    cv2.setRNGSeed(0)
    model = np.zeros((1, 65))
    cv2.grabCut(image, marks, (x0, y0, x1 - x0 - 1, y1 - y0 - 1), model, model.copy(), 4, cv2.GC_INIT_WITH_RECT)
    inside = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return image[y0:y1, x0:x1], inside[y0:y1, x0:x1]


def composites(folder: Path, boxes: Path, side: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Squares with an object pasted into another photo: the picture, the photo without it, and the object's mask."""
    stated = json.loads(boxes.read_text(encoding="utf-8"))
    photos = {path.name: read_image(path) for path in find_images([folder]) if path.name in stated}
    objects = {}
    for name, image in photos.items():
        drawn = [box for of_class in stated[name].values() for box in of_class]
        part, mask = cut_out(image, max(drawn, key=lambda box: (box[2] - box[0]) * (box[3] - box[1])))
        if mask.mean() > 0.2:
            objects[name] = part, mask
    random, names = np.random.default_rng(3), sorted(photos)
    while True:
        for name, (part, mask) in objects.items():
            ground = names[int(random.integers(len(names)))]
            scale = random.uniform(0.45, 0.75) * side / max(part.shape[:2])
            if ground == name:
                continue
            whole = photos[ground]
            edge = min(whole.shape[:2])
            top, left = ((length - edge) // 2 for length in whole.shape[:2])
            without = cv2.resize(
                whole[top : top + edge, left : left + edge], (side, side), interpolation=cv2.INTER_AREA
            )
            small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            shape = cv2.resize(mask.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
            y, x = (int(random.integers(0, side - length + 1)) for length in small.shape[:2])
            inside = np.zeros((side, side), bool)
            inside[y : y + small.shape[0], x : x + small.shape[1]] = shape
            picture = without.copy()
            picture[inside] = small[shape]
            yield picture, without, inside


def classified(model: Path, folder: Path, layers: Sequence[str], boxes: Path, count: int) -> Iterator[Case]:
    """The cases of a classifier; at most 40 composites are tried for each that is wanted."""
    recorder = Recorder(model, layers=list(layers), methods=["xgrad-cam"])
    made = onnx_xcam.instrument(str(model), layers=list(layers), emit=("activations", "gradients"))
    runs = session(made.SerializeToString(), 1)
    names = [one.name for one in runs.get_outputs() if one.name.startswith(("xcam_act", "xcam_grad"))]
    side = min(recorder.prepare(np.zeros((8, 8, 3), np.uint8)).placement.input)
    found = 0
    for (picture, without, inside), _ in zip(composites(folder, boxes, side), range(40 * count), strict=False):
        items = np.stack([recorder.prepare(one).item for one in (picture, without)])
        best = int(runs.run(["xcam_classes"], {runs.get_inputs()[0].name: items[:1]})[0][0, 0])
        sure = recorder.confidences(items, [best])[:, 0]
        if sure[0] < LEAST or sure[1] > BEFORE * sure[0]:
            continue
        feeds = {runs.get_inputs()[0].name: items[:1], "xcam_class": np.array([[best]], np.int64)}
        results = dict(zip(names, runs.run(names, feeds), strict=True))
        in_order = dict(zip(layers, ([one] for one in layers_of(results, made, layers)), strict=True))
        yield Case(items[0], lambda batch, best=best: recorder.confidences(batch, [best]), in_order, inside)
        found += 1
        if found == count:
            return


# --- detectors -------------------------------------------------------------------------------------------------------


def fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in its proportions at the left and upper edge of a grey input, float32 [3,H,W] in 0..1."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale != 1 else image
    whole = np.full((*size, 3), 114, np.uint8)
    whole[: small.shape[0], : small.shape[1]] = small
    return np.ascontiguousarray(whole.transpose(2, 0, 1), np.float32) / 255


def box_mask(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a box x1, y1, x2, y2, [H,W]."""
    x1, y1, x2, y2 = np.maximum(np.rint(box), 0).astype(int)
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The intersection of two masks over their union."""
    return float((one & other).sum() / max((one | other).sum(), 1))


def gaussian(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A Gaussian in the middle of a box, whose standard deviations are a quarter of its sides, [H,W]."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    x1, y1, x2, y2 = box.astype(np.float64)
    across, down = (x - (x1 + x2) / 2) / ((x2 - x1) / 4), (y - (y1 + y2) / 2) / ((y2 - y1) / 4)
    return np.asarray(np.exp(-(across**2 + down**2) / 2), np.float32)


def objects_of(
    told: np.ndarray, true: Sequence[np.ndarray] | None
) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
    """What to explain in a picture: the index of a kept box, its true box, and the other ones, as masks.

    Args:
        told: the masks of the boxes that the detector tells, best first, [K,H,W].
        true: the masks of the true boxes; None takes what the detector tells for true.
    """
    if true is None:
        for k, own in enumerate(told[:OBJECTS]):
            yield k, own, [other for other in told if overlap(own, other) <= SAME]
        return
    left = list(range(len(true)))
    for k, own in enumerate(told):
        near = max(left, key=lambda index, own=own: overlap(own, true[index]), default=None)
        if near is not None and overlap(own, true[near]) > FOUND:
            left.remove(near)
            yield k, true[near], [other for index, other in enumerate(true) if index != near]


def detected(
    model: Path, folder: Path, layers: Sequence[str], size: tuple[int, int], count: int, *, truth: Path | None
) -> Iterator[Case]:
    """The cases of a detector."""
    picks = session(onnx_xcam.instrument(str(model), emit=()).SerializeToString(), 1)
    pictures = picks.get_inputs()[0].name
    annotations = None if truth is None else read_annotations(truth)
    made = {}
    for layer in layers:
        chosen: dict[str, Any] = {} if layer == "cut" else {"layers": [layer]}
        one = onnx_xcam.instrument(str(model), emit=("activations", "gradients"), **chosen)
        made[layer] = one, session(one.SerializeToString(), 1)
    found = 0
    for path in find_images([folder]):
        item = fitted(read_image(path), size)
        ranked = {"xcam_object": -1 - np.arange(20)[None], "xcam_class": np.full((1, 20), -1)}
        outputs = ["xcam_objects", "xcam_boxes", "xcam_classes"]
        objects, boxes, classes = picks.run(outputs, {pictures: item[None], **ranked})
        told = np.array([box_mask(box, size) for box in boxes[0][objects[0] >= 0]])
        true = None
        if annotations is not None:
            drawn = annotations[path.name].boxes
            true = [box_mask(np.array([box.x0, box.y0, box.x1, box.y1]), size) for box in drawn]
        for k, own, others in objects_of(told, true):
            cell = {"xcam_object": objects[:1, [k]], "xcam_class": classes[:1, [k]]}

            def predict(batch: np.ndarray, cell: dict[str, np.ndarray] = cell) -> np.ndarray:
                answers = [picks.run(["xcam_probabilities"], {pictures: one[None], **cell})[0] for one in batch]
                return np.concatenate(answers)

            in_order = {}
            for layer, (model_of, runs) in made.items():
                names = [one.name for one in runs.get_outputs() if one.name.startswith(("xcam_act", "xcam_grad"))]
                results = dict(zip(names, runs.run(names, {pictures: item[None], **cell}), strict=True))
                in_order[layer] = layers_of(results, model_of, names[: len(names) // 2])
            baselines = {"the box": told[k].astype(np.float32), "a Gaussian in it": gaussian(boxes[0, k], size)}
            yield Case(item, predict, in_order, own, np.any(others, axis=0) if others else None, baselines)
            found += 1
            if found == count:
                return


# --- figures ---------------------------------------------------------------------------------------------------------


def maps_of(case: Case, layer: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The maps before the ReLU at the size of the input, [H,W] by name."""
    members = case.layers[layer]
    finest = max(one.size for one in members)
    xp, found = NumpyArrays(), {}
    for name in names:
        total = np.zeros((1, 1, *finest))
        for one in members:
            method = OTHERS.get(name)
            full = np.broadcast_to(one.gradients, one.activations.shape)
            raw = method(one.activations, full) if method else placed(one.activations, full, name)
            total = total + xp.resize_linear(raw.reshape(1, 1, *one.size), finest)
        found[name] = np.asarray(xp.resize_linear(total, case.inside.shape)[0, 0], np.float32)
    return found


def figures(case: Case, maps: Mapping[str, np.ndarray]) -> Iterator[tuple[str, list[float]]]:
    """The columns of every map."""
    stack, columns = np.stack(list(maps.values())), [0] * len(maps)
    metrics = ("insertion", "deletion")
    measured = faithfulness(
        case.predict, case.item, stack, columns, channels_last=False, metrics=metrics, steps=STEPS, batch=4
    )
    for (name, one), result in zip(maps.items(), measured, strict=True):
        shown = np.maximum(one, 0)
        on_others = np.nan
        if case.others is not None and shown[case.inside | case.others].any():
            apart = case.others & ~case.inside
            on_others = shown[apart].sum() / shown[case.inside | apart].sum()
        energy = energy_inside(shown, case.inside) if shown.any() else np.nan
        hit = bool(shown.any()) and pointing_game(shown, case.inside, 0)
        yield name, [result.metrics["insertion"], result.metrics["deletion"], energy, float(hit), on_others]


def main() -> None:
    """Parse the command line, measure, and print a table for each layer."""
    parser = command_line.parser("tools.evaluation.placement", __doc__)
    parser.add_argument("kind", choices=("classifier", "detector"))
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path, help="the folder of photos")
    parser.add_argument("--layer", action="append", required=True, help="may be repeated; of a detector also: cut")
    parser.add_argument("--placement", action="append", choices=(*PLACEMENTS, *OTHERS), help="default: all")
    parser.add_argument("--boxes", type=Path, default=Path(__file__).with_name("foolbox_boxes.json"))
    parser.add_argument("--truth", type=Path, help="of a detector: the true boxes")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 320), help="height and width of a detector's input")
    parser.add_argument("--count", type=int, default=24, help="how many scores")
    options = parser.parse_args()
    found = measured(options)
    print(tables.taken_on())
    for layer, of_layer in found.items():
        rows = []
        for name, values in of_layer.items():
            known = np.array(values, np.float64)
            with np.errstate(invalid="ignore"):
                means = [column[~np.isnan(column)] for column in known.T]
            rows.append([name, *(f"{column.mean():.3f}" if column.size else "" for column in means)])
        print(f"\n{layer}, {max(map(len, of_layer.values()))} scores\n")
        print(tables.in_markdown(["placement", *COLUMNS], rows))


def measured(options: argparse.Namespace) -> dict[str, dict[str, list[list[float]]]]:
    """The columns of every case, by layer and map."""
    names = options.placement or [*PLACEMENTS, *OTHERS]
    if options.kind == "classifier":
        cases = classified(options.model, options.pictures, options.layer, options.boxes, options.count)
    else:
        cases = detected(
            options.model, options.pictures, options.layer, tuple(options.size), options.count, truth=options.truth
        )
    found: dict[str, dict[str, list[list[float]]]] = {layer: {} for layer in options.layer}
    for case in cases:
        for index, layer in enumerate(options.layer):
            maps = maps_of(case, layer, names) | (case.baselines if index == 0 else {})
            for name, values in figures(case, maps):
                found[layer].setdefault(name, []).append(values)
    return found


if __name__ == "__main__":
    main()
