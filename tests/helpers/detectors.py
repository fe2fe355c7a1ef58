"""Small detectors in ONNX text syntax, and what they tell, worked out by hand with numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx

from helpers.models import Shapes, build

SIZE = 16
CLASSES = 3
LEVELS = (4, 8)
"""The strides of the two levels: grids of 4 x 4 and 2 x 2."""
PLACES = sum((SIZE // stride) ** 2 for stride in LEVELS)

TRUNK = """
  c1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(image, w1, b1)
  r1 = Sigmoid(c1)
  c2 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(r1, w2, b2)
  n4 = Tanh(c2)
  c3 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(n4, w3, b3)
  n8 = Tanh(c3)
"""
_HEAD = """
  s{k} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(n{k}, sw{k}, sb{k})
  a{k} = Tanh(s{k})
  l{k} = Conv<kernel_shape=[1,1]>(a{k}, cw{k}, cb{k})
  t{k} = Conv<kernel_shape=[1,1]>(n{k}, bw{k}, bb{k})
"""
_APART = """
  fl{k} = Reshape(l{k}, to_classes)
  ft{k} = Reshape(t{k}, to_boxes)
"""
_JOINED = """
  j{k} = Concat<axis=1>(t{k}, l{k})
  f{k} = Reshape(j{k}, to_both)
"""
_TABLES_APART = """
  logits = Concat<axis=2>(fl4, fl8)
  raw = Concat<axis=2>(ft4, ft8)
"""
_TABLES_JOINED = """
  table = Concat<axis=2>(f4, f8)
  raw, logits = Split<axis=1>(table, counts)
"""
_TABLE = """
  p = Sigmoid(logits)
  d0 = Softplus(raw)
  d = Mul(d0, strides)
  lt, rb = Split<axis=1>(d)
  x1y1 = Sub(centres, lt)
  x2y2 = Add(centres, rb)
  both = Add(x1y1, x2y2)
  centre = Mul(both, half)
  size = Sub(x2y2, x1y1)
  output0 = Concat<axis=1>(centre, size, p)
"""


def _heads(joined: bool, coupled: bool = False) -> str:
    head = _HEAD
    if coupled:
        head = head.replace("(a{k}, cw{k}", "(m{k}, kw{k}").replace("(n{k}, bw{k}", "(m{k}, bw{k}")
        head = "m{k} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(n{k}, mw{k})" + head
    heads = "".join((head + (_JOINED if joined else _APART)).format(k=stride) for stride in LEVELS)
    return heads + (_TABLES_JOINED if joined else _TABLES_APART)


def _weights() -> dict[str, Sequence[int] | np.ndarray]:
    shapes: dict[str, Sequence[int] | np.ndarray] = {
        "w1": (4, 3, 3, 3), "b1": (4,), "w2": (6, 4, 3, 3), "b2": (6,), "w3": (5, 6, 3, 3), "b3": (5,),
    }  # fmt: skip
    for stride, channels in zip(LEVELS, (6, 5), strict=True):
        shapes |= {
            f"sw{stride}": (4, channels, 3, 3), f"sb{stride}": (4,), f"cw{stride}": (CLASSES, 4, 1, 1),
            f"cb{stride}": (CLASSES,), f"bw{stride}": (4, channels, 1, 1), f"bb{stride}": (4,),
            f"mw{stride}": (channels, channels, 3, 3), f"kw{stride}": (CLASSES, channels, 1, 1),
        }  # fmt: skip
    grids = [(np.stack(np.meshgrid(*[np.arange(SIZE // s)] * 2), -1).reshape(-1, 2) + 0.5) * s for s in LEVELS]
    shapes["centres"] = np.concatenate(grids).T[None].astype(np.float32)
    shapes["strides"] = np.concatenate([np.full((SIZE // s) ** 2, s) for s in LEVELS])[None, None].astype(np.float32)
    shapes["half"] = np.array(0.5, np.float32)
    shapes["to_classes"] = np.array([0, CLASSES, -1])
    shapes["to_boxes"] = np.array([0, 4, -1])
    shapes["to_both"] = np.array([0, 4 + CLASSES, -1])
    shapes["counts"] = np.array([4, CLASSES])
    return shapes


def one_table(
    n: int | str = "N", seed: int = 3, gain: float = 6.0, *, joined: bool = False, coupled: bool = False
) -> onnx.ModelProto:
    """A detector of two levels with one table `[N, 4 + C, Q]`; `gain` scales what makes the logits differ.

    Where boxes and scores are `joined`, each level's are one tensor, and the whole table is split into them again.
    Where they are `coupled`, kernels of one position make both of the same layer.
    """
    model = build(
        TRUNK + _heads(joined, coupled) + _TABLE,
        _weights(),
        inputs=f"float[{n},3,{SIZE},{SIZE}] image",
        outputs=f"float[{n},{4 + CLASSES},{PLACES}] output0",
        seed=seed,
    )
    for tensor in model.graph.initializer:
        factor, shift = {"cw": (gain, 0), "cb": (1, -1.5), "bb": (1, 0.5)}.get(tensor.name[:2], (1, 0))
        scaled = onnx.numpy_helper.to_array(tensor) * factor + shift
        if (factor, shift) != (1, 0):
            tensor.CopyFrom(onnx.numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    return model


class Object(NamedTuple):
    """An object that is kept."""

    candidate: int
    label: int
    p: float
    box: np.ndarray


def kept_by_hand(p: np.ndarray, boxes: np.ndarray, conf: float = 0.25, iou: float = 0.45) -> list[Object]:
    """The objects of one image, best first, by suppression class by class, written with loops.

    Args:
        p: probabilities `[Q, C]`.
        boxes: x1, y1, x2, y2 `[Q, 4]`.
        conf: objects exceed it.
        iou: of two boxes of one class that overlap by more, the worse one is dropped.
    """
    found: list[Object] = []
    for q in np.argsort(-p.max(1), kind="stable"):
        label = int(p[q].argmax())
        if p[q, label] <= conf:
            continue
        if all(one.label != label or overlap(one.box, boxes[q]) <= iou for one in found):
            found.append(Object(int(q), label, float(p[q, label]), boxes[q]))
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The intersection of two boxes divided by their union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    return float(inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside))


def corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes `[..., 4]` as centre and size, as x1, y1, x2, y2."""
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


__all__ = ["CLASSES", "LEVELS", "PLACES", "SIZE", "Object", "Shapes", "corners", "kept_by_hand", "one_table", "overlap"]
