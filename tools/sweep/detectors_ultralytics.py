"""Detectors of Ultralytics' own descriptions (`*.yaml`) for `tools.sweep.detectors`. Needs ultralytics.

The TorchScript export is Ultralytics' own, with its metadata; dynamo gets the module as that export prepares it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

os.environ["YOLO_VERBOSE"] = os.environ["YOLO_AUTOINSTALL"] = "false"  # read where it is imported
from ultralytics import YOLO
from ultralytics.nn.modules import C2f
from ultralytics.nn.modules.head import Detect

from tools.common import torch_models
from tools.sweep import detector_case
from tools.sweep.detector_case import Detector, Heard, Rows, Table

SIZE = 320
SHARE = 0.04


class Case(Detector):
    """A detector such as `yolov8n`, `yolo11n-seg`, `yolo26n@rows` (end to end) or `yolov8n@nms`."""

    def __init__(self, name: str, seed: int) -> None:
        kind, _, self.ends = name.partition("@")
        torch.manual_seed(seed)
        self.yolo = YOLO(f"{kind}.yaml")
        self.module: Any = self.yolo.model.float().eval()
        self.picks = "rows" if self.ends else "nothing"
        if self.ends:
            self.exporters = ("torchscript",)
        self.image = detector_case.picture(SIZE, seed)[None]
        self._randomise(seed)

    def _randomise(self, seed: int) -> None:
        head = self.module.model[-1]
        if getattr(head, "one2one_cv3", None) is not None:
            head.end2end = self.ends == "rows"
        bins = [part.conv.weight.data.clone() for part in [head.dfl] if hasattr(part, "conv")]
        torch_models.randomise(self.module, self.image, seed)
        if bins:
            head.dfl.conv.weight.data = bins[0]  # the bins' numbers, which are no parameters
        self.module.requires_grad_(False)
        pictures = torch.from_numpy(self.image)
        detector_case.spread(lambda: self.module(pictures), [one[-1] for one in _heads(head)[0]])
        detector_case.spread(lambda: self.module(pictures), [one[-1] for one in _heads(head)[1]], 1.0)
        if not bins:
            for one in _heads(head)[1]:
                one[-1].bias.data += 4.0  # distances: boxes are wider than a cell

        def shift(by: float) -> None:
            for one in _heads(head)[0]:
                one[-1].bias.data += by

        detector_case.aim(lambda: self.table(self.module, pictures), shift, SHARE)

    def table(self, module: Any, x: torch.Tensor) -> Table:
        """The candidates of all levels: class logits as the head's last layers give them, boxes as it decodes them."""
        head = module.model[-1]
        head.shape = None  # its grid is made anew, in this precision
        with contextlib.ExitStack() as stack:
            heard = [stack.enter_context(Heard(one)) for one in _heads(head)[0]]
            rest = [stack.enter_context(Heard(part)) for part in ([head.dfl] if self.ends == "rows" else [])]
            output = module(x)
        scores = torch.cat([one[0].flatten(2) for one in heard], 2)[0].T
        if self.ends == "rows":
            sides = [one[0].shape[-2:] for one in heard]
            return Table(scores, scores.sigmoid(), _corners(rest[0][0][0].T, sides, head.stride))
        while not isinstance(output, torch.Tensor):
            output = output[0]
        middle, size = output[0, :2].T, output[0, 2:4].T
        return Table(scores, scores.sigmoid(), torch.cat([middle - size / 2, middle + size / 2], 1))

    def rows(self, outputs: dict[str, np.ndarray]) -> Rows:
        """The rows x1, y1, x2, y2, p, class of the first output."""
        rows = outputs["output0"][0]
        return Rows(rows[:, 5].astype(np.int64), rows[:, 4], rows[:, :4])

    def export(self, path: Path, exporter: torch_models.Exporter) -> None:
        """Write the file, by Ultralytics itself or with dynamo."""
        if exporter == "torchscript":
            end = {"nms": {"": None, "nms": True, "rows": False}[self.ends]}
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                written = self.yolo.export(format="onnx", imgsz=SIZE, opset=torch_models.OPSET, simplify=False, **end)
                shutil.copyfile(written, path)
            return
        module = copy.deepcopy(self.module)
        for part in module.modules():
            if isinstance(part, Detect):
                part.export, part.format, part.shape = True, "onnx", None
            elif isinstance(part, C2f):
                part.forward = part.forward_split  # as the exporter of Ultralytics does
        detector_case.export(module, [torch.from_numpy(self.image)], path, exporter, (["images"], ["output0"]))


def _heads(head: Any) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The branches of classes and of boxes that are used, one for each level."""
    if getattr(head, "end2end", False):
        return head.one2one_cv3, head.one2one_cv2
    return head.cv3, head.cv2


def _corners(distances: torch.Tensor, sides: list[Any], strides: torch.Tensor) -> torch.Tensor:
    """Corners [A,4] in pixels from the distances [A,4] (left, top, right, bottom, in cells) from the cells' centres."""
    centres, scale = [], []
    for (height, width), stride in zip(sides, strides.tolist(), strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2) + 0.5)
        scale.append(torch.full((height * width, 1), stride))
    at = torch.cat(centres).to(distances)
    return torch.cat([at - distances[:, :2], at + distances[:, 2:]], 1) * torch.cat(scale).to(distances)
