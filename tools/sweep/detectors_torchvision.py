"""Detectors of torchvision on small backbones, for `tools.sweep.detectors`. Needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import boxes as box_ops
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from tools.common import torch_models
from tools.sweep import detector_case
from tools.sweep.detector_case import Detector, Rows, Table

CLASSES = 11
_SHARES = {"retinanet": 0.004, "ssd300": 0.01, "fcos": 0.03, "ssdlite": 0.03}
_SIDES = {"ssdlite": 320, "ssd300": 300}
_REGIONS = ("fasterrcnn", "maskrcnn", "keypointrcnn")
KINDS = (*_SHARES, *_REGIONS)


def _build(kind: str, side: int) -> nn.Module:
    """A detector without trained weights."""
    sides = {"min_size": side, "max_size": side}
    if kind == "ssdlite":
        return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES)
    if kind == "ssd300":
        return detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=CLASSES)
    stages = torchvision.models.resnet18(weights=None)
    if kind in _REGIONS:
        made = {
            "fasterrcnn": detection.FasterRCNN,
            "maskrcnn": detection.MaskRCNN,
            "keypointrcnn": detection.KeypointRCNN,
        }[kind]
        few = {"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 60}
        return made(_resnet_fpn_extractor(stages, 5), CLASSES, **few, **sides)
    pyramid = _resnet_fpn_extractor(stages, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    if kind == "fcos":
        return detection.FCOS(pyramid, CLASSES, **sides)
    anchors = detection.retinanet._default_anchorgen()
    return detection.RetinaNet(pyramid, CLASSES, anchor_generator=anchors, **sides)


class _One(nn.Module):
    """A detector that takes one picture [3,H,W], as torchvision's own exports do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> Any:
        """Run the model."""
        return tuple(self.model([image])[0].values())


class Case(Detector):
    """A detector such as `fcos`: its file picks rows, by thresholds, TopK and non-maximum suppression."""

    picks = "rows"

    def __init__(self, name: str, seed: int) -> None:
        self.kind = name
        if name not in KINDS:
            raise SystemExit(f"torchvision:{name} is none of {', '.join(KINDS)}")
        side = _SIDES.get(name, 256)
        torch.manual_seed(seed)
        self.model: Any = _build(name, side).eval()
        self.module = _One(self.model).eval()
        self.image = detector_case.picture(side, seed)
        self.softmax = name.startswith("ssd") or name in _REGIONS
        self._randomise(seed)

    def _randomise(self, seed: int) -> None:
        image = torch.from_numpy(self.image)
        torch_models.randomise(self.module, self.image, seed)
        self.module.requires_grad_(False)
        classes, boxes = self._last_layers()
        detector_case.spread(lambda: self.module(image), classes, 1.5)
        detector_case.spread(lambda: self.module(image), boxes, 0.5)
        if self.kind == "fcos":
            boxes[0].bias.data += 1.5  # distances: boxes are wider than a cell

        def shift(by: float) -> None:
            for layer in classes:
                if self.softmax:
                    layer.bias.data.view(-1, CLASSES)[:, 0] -= by  # the background's
                else:
                    layer.bias.data += by

        detector_case.aim(lambda: self.table(self.module, image), shift, _SHARES.get(self.kind, 0.3))

    def _last_layers(self) -> tuple[list[Any], list[Any]]:
        """The layers that give class logits, and those that give boxes."""
        if self.kind in _REGIONS:
            ends = self.model.roi_heads.box_predictor
            return [ends.cls_score], [ends.bbox_pred]
        classes, boxes = self.model.head.classification_head, self.model.head.regression_head
        if self.kind.startswith("ssd"):
            return [_last(one) for one in classes.module_list], [_last(one) for one in boxes.module_list]
        return [classes.cls_logits], [boxes.bbox_reg]

    def table(self, module: Any, x: torch.Tensor) -> Table:
        """The anchors or regions, as the model hands them to its last step, which picks rows."""
        model = module.model
        owner = model.roi_heads if self.kind in _REGIONS else model
        given: list[Any] = []
        step = type(owner).postprocess_detections

        def listen(*args: Any) -> Any:
            given.append(args)
            return step(owner, *args)

        owner.postprocess_detections = listen
        try:
            module(x)
        finally:
            del owner.postprocess_detections
        return self._of_regions(owner, *given[0]) if self.kind in _REGIONS else self._of_anchors(owner, *given[0])

    def _of_regions(self, heads: Any, logits: torch.Tensor, moves: torch.Tensor, regions: Any, sides: Any) -> Table:
        boxes = box_ops.clip_boxes_to_image(heads.box_coder.decode(moves, regions), sides[0])
        return Table(logits, _without_background(logits), boxes)

    def _of_anchors(self, model: Any, outputs: dict[str, Any], anchors: Any, sides: Any) -> Table:
        logits, moves = (_joined(outputs[name]) for name in ("cls_logits", "bbox_regression"))
        priors = anchors[0] if isinstance(anchors[0], torch.Tensor) else torch.cat(list(anchors[0]))
        decode = model.box_coder.decode if self.kind == "fcos" else model.box_coder.decode_single
        boxes = box_ops.clip_boxes_to_image(decode(moves, priors), sides[0])
        if self.kind == "fcos":
            central = _joined(outputs["bbox_ctrness"])
            scores = nn.functional.logsigmoid(logits) + nn.functional.logsigmoid(central)
            return Table(scores, (logits.sigmoid() * central.sigmoid()).sqrt(), boxes)
        return Table(logits, _without_background(logits) if self.softmax else logits.sigmoid(), boxes)

    def rows(self, outputs: dict[str, np.ndarray]) -> Rows:
        """The rows of boxes, scores and labels."""
        return Rows(outputs["labels"], outputs["scores"], outputs["boxes"])

    def export(self, path: Path, exporter: torch_models.Exporter) -> None:
        """Write the file."""
        image = torch.from_numpy(self.image)
        names = list(self.model([image])[0])
        detector_case.export(self.module, [image], path, exporter, (["images"], names))


def _last(module: nn.Module) -> nn.Module:
    """The last convolution of a module."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)][-1]


def _joined(levels: Any) -> torch.Tensor:
    """The rows of the picture, of all levels."""
    return levels[0] if isinstance(levels, torch.Tensor) else torch.cat([level[0] for level in levels])


def _without_background(logits: torch.Tensor) -> torch.Tensor:
    """The probabilities; that of class 0, the background, is none."""
    chances = logits.softmax(-1)
    return torch.cat([torch.zeros_like(chances[:, :1]), chances[:, 1:]], 1)
