"""Detectors of transformers, small ones by their configurations, for `tools.sweep.detectors`. Needs transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from tools.common import torch_models
from tools.sweep import detector_case
from tools.sweep.detector_case import Detector, Rows, Table

CLASSES, ROWS, SHARE = 9, 30, 0.2
_STAGES = {
    **{"embedding_size": 32, "hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1], "layer_type": "basic"},
}
_FINE = {"out_features": ["stage2", "stage3", "stage4"]}
_DECODER = {
    **{"d_model": 64, "encoder_hidden_dim": 64, "encoder_in_channels": [64, 96, 128], "num_queries": 60},
    **{"decoder_in_channels": [64, 64, 64], "decoder_layers": 3, "decoder_ffn_dim": 128, "encoder_ffn_dim": 128},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "anchor_image_size": None, "num_labels": CLASSES},
    "freeze_backbone_batch_norms": False,
}
_QUERIES = {
    **{"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 40, "num_labels": CLASSES},
    **{"backbone": None, "use_timm_backbone": False, "use_pretrained_backbone": False},
}
_HGNET = {
    **{"stem_channels": [3, 16, 16], "stage_in_channels": [16, 32, 64, 96], "stage_mid_channels": [16, 16, 32, 32]},
    **{"stage_out_channels": [32, 64, 96, 128], "stage_num_blocks": [1, 1, 1, 1], "stage_numb_of_layers": [2, 2, 2, 2]},
    **{"hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 1, 1], "embedding_size": 16},
}
_YOLOS = {
    **{"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128},
    **{"patch_size": 16, "num_detection_tokens": 30, "use_mid_position_embeddings": False, "num_labels": CLASSES},
}


def _coarse() -> Any:
    return transformers.ResNetConfig(**_STAGES, out_features=["stage4"])


def _rt_stages() -> Any:
    return transformers.RTDetrResNetConfig(**_STAGES, **_FINE, downsample_in_bottleneck=False)


KINDS: dict[str, tuple[int, Callable[[int], Any]]] = {
    "detr": (
        256,
        lambda _: transformers.DetrForObjectDetection(transformers.DetrConfig(backbone_config=_coarse(), **_QUERIES)),
    ),
    "conditional": (
        256,
        lambda _: transformers.ConditionalDetrForObjectDetection(
            transformers.ConditionalDetrConfig(backbone_config=_coarse(), **_QUERIES)
        ),
    ),
    "yolos": (
        256,
        lambda side: transformers.YolosForObjectDetection(transformers.YolosConfig(image_size=[side, side], **_YOLOS)),
    ),
    "rtdetr": (
        256,
        lambda _: transformers.RTDetrForObjectDetection(
            transformers.RTDetrConfig(backbone_config=_rt_stages(), **_DECODER)
        ),
    ),
    "rtdetrv2": (
        256,
        lambda _: transformers.RTDetrV2ForObjectDetection(
            transformers.RTDetrV2Config(backbone_config=_rt_stages(), **_DECODER)
        ),
    ),
    "dfine": (
        256,
        lambda _: transformers.DFineForObjectDetection(
            transformers.DFineConfig(
                backbone_config=transformers.HGNetV2Config(**_HGNET, **_FINE), decoder_n_points=[3, 6, 3], **_DECODER
            )
        ),
    ),
}
"""By name: the side of the picture, and what makes the model for it."""
WITH_NO_OBJECT = ("detr", "yolos")
"""Their last column is that of no object, under a softmax; the others' classes have a sigmoid each."""


class _Outputs(nn.Module):
    """A detector of transformers that returns its logits and boxes, as exports of Optimum do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        """Run the model."""
        found = self.model(pixel_values=x)
        return found.logits, found.pred_boxes


class _Rows(nn.Module):
    """What the exports of RT-DETR's and D-FINE's authors add: the best cells as rows, scaled to the photo's size."""

    def __init__(self, outputs: _Outputs) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: torch.Tensor, sizes: torch.Tensor) -> Any:
        """Run the model; `sizes` is width and height."""
        logits, boxes = self.outputs(x)
        corners = _corners(boxes) * sizes.repeat(1, 2).unsqueeze(1)
        scores, index = torch.topk(logits.sigmoid().flatten(1), ROWS, dim=-1)
        labels = index - index // CLASSES * CLASSES
        return labels, corners.gather(1, (index // CLASSES).unsqueeze(-1).repeat(1, 1, 4)), scores


class Case(Detector):
    """A detector such as `detr`, or `rtdetr@rows`, whose file picks the best cells itself."""

    def __init__(self, name: str, seed: int) -> None:
        self.kind, _, ends = name.partition("@")
        self.side, make = KINDS[self.kind]
        torch.manual_seed(seed)
        model = make(self.side).eval()
        model.set_attn_implementation("eager")  # other ways hide the tensors in between
        self.module = _Outputs(model).eval()
        self.picks = "rows" if ends else "queries"
        self.image = detector_case.picture(self.side, seed)[None] * 2 - 1
        self._randomise(model, seed)

    def _randomise(self, model: nn.Module, seed: int) -> None:
        torch_models.randomise(self.module, self.image, seed)
        self.module.requires_grad_(False)
        pictures = torch.from_numpy(self.image)
        linear = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
        classes = [part for name, part in linear if part.out_features in (CLASSES, CLASSES + 1)]
        detector_case.spread(lambda: self.module(pictures), classes)
        boxes = [part for name, part in linear if part.out_features == 4 and "bbox" in name]
        detector_case.spread(lambda: self.module(pictures), boxes, 0.7)
        for name, part in linear:
            if name.endswith("sampling_offsets"):
                part.weight.data.mul_(0.2)  # within a few cells, as those of trained models

        def shift(by: float) -> None:
            for part in dict.fromkeys(classes):
                if self.kind in WITH_NO_OBJECT:
                    part.bias.data[-1] -= by
                else:
                    part.bias.data += by

        detector_case.aim(lambda: self.table(self.module, pictures), shift, SHARE)

    def table(self, module: nn.Module, x: torch.Tensor) -> Table:
        """The queries, without the column of no object."""
        logits, boxes = (one[0] for one in module(x))
        corners = _corners(boxes) * self.side
        if self.kind in WITH_NO_OBJECT:
            return Table(logits[:, :-1], logits.softmax(-1)[:, :-1], corners)
        return Table(logits, logits.sigmoid(), corners)

    def rows(self, outputs: dict[str, np.ndarray]) -> Rows:
        """The rows of labels, boxes and scores."""
        return Rows(outputs["labels"][0], outputs["scores"][0], outputs["boxes"][0])

    def further(self) -> dict[str, np.ndarray]:
        """The size of the photo, where the file scales boxes to it."""
        sizes = np.array([[self.side, self.side]], np.int64)
        return {"orig_target_sizes": sizes} if self.picks == "rows" else {}

    def export(self, path: Path, exporter: torch_models.Exporter) -> None:
        """Write the file."""
        x = torch.from_numpy(self.image)
        if self.picks == "rows":
            sizes = torch.from_numpy(self.further()["orig_target_sizes"])
            names = (["images", "orig_target_sizes"], ["labels", "boxes", "scores"])
            detector_case.export(_Rows(self.module), [x, sizes], path, exporter, names)
        else:
            detector_case.export(self.module, [x], path, exporter, (["pixel_values"], ["logits", "pred_boxes"]))


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    """Corners from centres and sizes [...,4]."""
    return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)
