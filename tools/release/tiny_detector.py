"""Make sample_models/tiny_detector.onnx and its scene again: a small detector, trained here on synthetic scenes.

The scenes are those of `tools/common/scenes.py`, so that box, mask and deciding mark of every object are known exactly.
The network is a small relative of FCOS and YOLO: three levels with strides 8, 16 and 32 that exchange what they see,
and for each level one head for the classes and one for the box. PyTorch is no dependency of onnx_xcam:

    pip install torch onnx onnxruntime onnx-xcam
    python -m tools.release.tiny_detector

Training takes minutes on one core, and starts from a fixed seed; the same version of PyTorch on the same kind of
processor gives the same weights. The exported model is compared with the PyTorch model, and tried on scenes that it
was not trained on, before anything is written.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn
from torch.nn import functional

from tools.common import command_line
from tools.common.folders import PICTURES, SAMPLE_MODELS
from tools.common.scenes import LABELS, MOST_OBJECTS, SIZE, Scene, random_scene, shipped_scene

OPSET = 17
STRIDES = (8, 16, 32)
LEVELS = ((0, 9), (8, 14), (13, 99))
"""The smallest and largest radius of the objects that each level learns."""
BACKBONE = (12, 16, 24, 32, 40)
NECK = 24
BATCH, STEPS, SEED = 16, 3000, 16
LEARNING_RATE = 4e-3
ALPHA, GAMMA = 0.25, 2
"""The constants of the focal loss, those of RetinaNet."""
TRIAL_SEED, TRIALS = 2026, 400
"""The seed and number of the scenes that the trained model is tried on."""
LEAST_FOUND = 0.94
"""The part of the objects in them that it must find with box and class; the rest of it may be found besides."""
TOLERANCE = 1e-4
PREPROCESS = {"size": [SIZE, SIZE], "resize": "letterbox", "pad_value": 114, "scale": "1/255", "channels": "RGB"}
MODEL, PICTURE = "tiny_detector.onnx", "shapes.png"


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return a convolution with batch normalisation, which the exporter folds into it, and SiLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


def head(outputs: int) -> nn.Sequential:
    """Return what a level tells at each of its places."""
    return nn.Sequential(convolution(NECK, NECK), nn.Conv2d(NECK, outputs, 1))


class Detector(nn.Module):
    """The detector takes float32 [N,3,H,W] in 0..1, RGB, and returns float32 [N, 4 + classes, A].

    A candidate is its box (centre x, centre y, width, height in pixels) and the probability of each class.
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = BACKBONE
        self.stem = nn.Sequential(convolution(3, a, 2), convolution(a, b, 2), convolution(b, b))
        self.stage3 = nn.Sequential(convolution(b, c, 2), convolution(c, c))
        self.stage4 = nn.Sequential(convolution(c, d, 2), convolution(d, d))
        self.stage5 = nn.Sequential(convolution(d, e, 2), convolution(e, e))
        self.lateral = nn.ModuleList(convolution(width, NECK, kernel=1) for width in (c, d, e))
        self.top_down = nn.ModuleList(convolution(NECK, NECK) for _ in range(2))
        self.bottom_up = nn.ModuleList(convolution(NECK, NECK, 2) for _ in range(2))
        self.out5 = convolution(NECK, NECK)
        self.classes = nn.ModuleList(head(len(LABELS)) for _ in STRIDES)
        self.boxes = nn.ModuleList(head(4) for _ in STRIDES)
        for one in self.classes:
            nn.init.constant_(one[-1].bias, -4.0)  # at first nothing is an object, as in RetinaNet
        points, strides = places()
        self.register_buffer("points", points)
        self.register_buffer("strides", strides)

    def levels(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the three maps that classes and boxes are told from, from fine to coarse."""
        c3 = self.stage3(self.stem(x))
        c4 = self.stage4(c3)
        p5 = self.lateral[2](self.stage5(c4))
        p4 = self.top_down[1](self.lateral[1](c4) + functional.interpolate(p5, scale_factor=2.0))
        p3 = self.top_down[0](self.lateral[0](c3) + functional.interpolate(p4, scale_factor=2.0))
        n4 = p4 + self.bottom_up[0](p3)
        n5 = self.out5(p5 + self.bottom_up[1](n4))
        return p3, n4, n5

    def raw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class logits [N,C,A], and the distances to left, top, right and bottom in strides, [N,4,A]."""
        levels = self.levels(x)
        logits = torch.cat([one(level).flatten(2) for one, level in zip(self.classes, levels, strict=True)], 2)
        boxes = torch.cat([one(level).flatten(2) for one, level in zip(self.boxes, levels, strict=True)], 2)
        return logits, functional.softplus(boxes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what a deployed detector returns."""
        logits, distances = self.raw(x)
        left, top, right, bottom = (distances * self.strides).unbind(1)
        x1, y1, x2, y2 = self.points[0] - left, self.points[1] - top, self.points[0] + right, self.points[1] + bottom
        box = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)
        return torch.cat([box, logits.sigmoid()], 1)


def places() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the middle of each candidate's cell, x and y in pixels [2,A], and its stride [A]."""
    points, strides = [], []
    for stride in STRIDES:
        along = (torch.arange(SIZE // stride) + 0.5) * stride
        y, x = torch.meshgrid(along, along, indexing="ij")
        points.append(torch.stack([x.flatten(), y.flatten()]))
        strides.append(torch.full((x.numel(),), float(stride)))
    return torch.cat(points, 1), torch.cat(strides)


class Target:
    """A Target is what the candidates should say of a scene, by the rule of FCOS.

    A candidate belongs to an object of its level whose middle is less than a stride away from its own and inside the
    object; of several, to the smallest.

    Attributes:
        classes: 1 for the class of each object at its candidates, else 0: [C,A].
        distances: to left, top, right and bottom of the object, in strides, at its candidates: [4,A].
        positive: which candidates belong to an object: bool [A].
    """

    def __init__(self, scene: Scene, points: torch.Tensor, strides: torch.Tensor) -> None:
        count = len(strides)
        self.classes, self.distances = torch.zeros(len(LABELS), count), torch.zeros(4, count)
        smallest = torch.full((count,), float("inf"))
        for shape in scene.shapes:
            middle = torch.tensor([shape.x + 0.5, shape.y + 0.5])
            far = (points - middle[:, None]).abs().max(0).values
            level = torch.zeros(count, dtype=torch.bool)
            for stride, (low, high) in zip(STRIDES, LEVELS, strict=True):
                level |= (strides == stride) & (low <= shape.radius <= high)
            near = (far < strides) & ((far < shape.radius) | (far < strides / 2))
            own = level & near & (shape.radius < smallest)
            smallest[own] = shape.radius
            self.classes[:, own] = 0.0
            self.classes[shape.label, own] = 1.0
            x1, y1, x2, y2 = shape.box
            x, y = points[:, own]
            self.distances[:, own] = torch.stack([x - x1, y - y1, x2 - x, y2 - y]).clamp(min=0) / strides[own]
        self.positive = torch.isfinite(smallest)


def loss(net: Detector, scenes: list[Scene]) -> torch.Tensor:
    """Return the focal loss (RetinaNet, equation 5) of the classes and the losses of the boxes.

    Boxes have the mean error of their four distances, and 1 - IoU, which UnitBox takes (Yu et al., 2016, without the
    logarithm): it weighs small objects as large ones.
    """
    targets = [Target(scene, net.points, net.strides) for scene in scenes]
    logits, distances = net.raw(tensor(scenes))
    wanted = torch.stack([target.classes for target in targets])
    positive = torch.stack([target.positive for target in targets])
    count = positive.sum().clamp(min=1)
    p = logits.sigmoid()
    right = p * wanted + (1 - p) * (1 - wanted)
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = ((ALPHA * wanted + (1 - ALPHA) * (1 - wanted)) * (1 - right) ** GAMMA * entropy).sum() / count
    sides = torch.stack([target.distances for target in targets])
    off = ((distances - sides).abs() * positive[:, None]).sum() / count / 4
    shared = torch.minimum(distances, sides)
    overlap = (shared[:, 0] + shared[:, 2]) * (shared[:, 1] + shared[:, 3])
    areas = sum((one[:, 0] + one[:, 2]) * (one[:, 1] + one[:, 3]) for one in (distances, sides))
    apart = ((1 - overlap / (areas - overlap).clamp(min=1e-6)) * positive).sum() / count
    return 8 * focal + off + 2 * apart


def tensor(scenes: list[Scene]) -> torch.Tensor:
    """Return scenes as the model takes them: float32 [N,3,H,W] in 0..1."""
    images = np.stack([scene.image_rgb for scene in scenes]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(images)).float() / 255


def trained(steps: int) -> Detector:
    """Train a detector on `steps` batches of new scenes, some of them empty, and return it in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    net = Detector()
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, steps)
    start = time.monotonic()
    for step in range(steps):
        scenes = [random_scene(rng, count=int(rng.integers(MOST_OBJECTS + 1))) for _ in range(BATCH)]
        error = loss(net, scenes)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: loss {error.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)
    return net.eval()


def export(net: Detector, path: Path) -> onnx.ModelProto:
    """Write the detector as ONNX with a symbolic batch, its labels and its preprocessing in the metadata."""
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, SIZE, SIZE),),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["output0"],
        dynamic_axes={"images": {0: "batch"}, "output0": {0: "batch"}},
    )
    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter has forgotten there that the batch is symbolic
    model.doc_string = "A tiny detector, trained on synthetic scenes by tools/release/tiny_detector.py."
    stated = {"onnx_xcam.preprocess": json.dumps(PREPROCESS), "onnx_xcam.labels": json.dumps(LABELS)}
    onnx.helper.set_model_props(model, stated)
    onnx.checker.check_model(model, full_check=True)
    return model


def kept(rows: npt.NDArray[np.float32]) -> list[tuple[int, float, npt.NDArray[np.float32]]]:
    """Return (class, p, box) of the objects that a detector keeps, best first.

    A candidate is of its best class; p is above 0.25, and of boxes of a class with an IoU above 0.45 the best is kept.

    Args:
        rows: the model's output for a scene, [4+C,A].
    """
    x, y, width, height = rows[:4]
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)
    labels, p = rows[4:].argmax(0), rows[4:].max(0)
    result: list[tuple[int, float, npt.NDArray[np.float32]]] = []
    for index in np.argsort(-p, kind="stable")[: int((p > 0.25).sum())]:
        if all(label != labels[index] or iou(box, boxes[index]) <= 0.45 for label, _, box in result):
            result.append((int(labels[index]), float(p[index]), boxes[index]))
    return result


def iou(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the intersection over union of two boxes x1, y1, x2, y2."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    shared = float((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod())
    return shared / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def found(rows: npt.NDArray[np.float32], scene: Scene) -> tuple[list[bool], int]:
    """Tell of each object of a scene whether it is kept (class, and IoU above 0.5), and count what is kept besides.

    Args:
        rows: the model's output for the scene, [4+C,A].
        scene: the scene.
    """
    told = kept(rows)
    right = []
    for shape in scene.shapes:
        mine = [one for one in told if one[0] == shape.label and iou(one[2], shape.box) > 0.5][:1]
        told = [one for one in told if not mine or one is not mine[0]]
        right.append(bool(mine))
    return right, len(told)


def tried(model: onnx.ModelProto, net: Detector) -> None:
    """Run the exported model on new scenes; stop where it differs from PyTorch or finds too few objects."""
    rng = np.random.default_rng(TRIAL_SEED)
    scenes = [random_scene(rng) for _ in range(TRIALS)]
    batch = tensor(scenes)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (rows,) = session.run(["output0"], {"images": batch.numpy()})
    with torch.inference_mode():
        difference = float(np.abs(net(batch).numpy() - rows).max())
    print(f"largest difference from PyTorch: {difference:.1e}")
    results = [found(scores, scene) for scores, scene in zip(rows, scenes, strict=True)]
    right = np.array([one for told, _ in results for one in told])
    besides = sum(count for _, count in results)
    labels = np.concatenate([scene.labels for scene in scenes])
    by_class = ", ".join(f"{name} {right[labels == n].mean():.1%}" for n, name in enumerate(LABELS))
    print(f"found with box and class: {right.sum()} of {right.size} objects ({right.mean():.1%}): {by_class}")
    print(f"kept besides: {besides}")
    if not difference <= TOLERANCE:
        sys.exit(f"the exported model differs from the PyTorch model by more than {TOLERANCE:.0e}: nothing was written")
    if right.mean() < LEAST_FOUND or besides > (1 - LEAST_FOUND) * right.size:
        sys.exit(f"fewer than {LEAST_FOUND:.0%} of the objects were found, or more besides: nothing was written")


def main() -> None:
    """Parse the command line, train, try and write."""
    parser = command_line.parser("tools.release.tiny_detector", __doc__)
    parser.add_argument("-o", "--output", type=Path, default=SAMPLE_MODELS, help="folder to write to")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"batches of {BATCH} scenes (default: {STEPS})")
    options = parser.parse_args()
    net = trained(options.steps)
    scratch = options.output / f"{MODEL}.part"
    try:
        model = export(net, scratch)
    finally:
        scratch.unlink(missing_ok=True)
    tried(model, net)
    onnx.save(model, options.output / MODEL)
    pictures = options.output / PICTURES.name
    pictures.mkdir(exist_ok=True)
    cv2.imwrite(str(pictures / PICTURE), shipped_scene().image_rgb[..., ::-1])
    size = (options.output / MODEL).stat().st_size
    print(f"written to {options.output}: {MODEL} has {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
