"""Detectors with the outputs of several families, on the two levels of helpers/detectors.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from helpers.detectors import CLASSES, LEVELS, PLACES, SIZE, TRUNK
from helpers.models import build

COUNTS = [(SIZE // stride) ** 2 for stride in LEVELS]
"""The number of places of each level."""
BINS = 6
"""The number of bins of each distance."""

_CHANNELS = dict(zip(LEVELS, (6, 5), strict=True))

Columns = Mapping[str, int]


def conv(name: str) -> str:
    """One layer of this name for each level: `name4` and `name8`."""
    return "".join(f"{name}{k} = Conv<kernel_shape=[1,1]>(n{k}, {name}w{k}, {name}b{k})\n" for k in LEVELS)


def per_level(text: str) -> str:
    """The text once for each level, with # for its stride."""
    return "".join(text.replace("#", str(k)) for k in LEVELS)


def detector(
    text: str,
    layers: Columns,
    outputs: Mapping[str, Sequence[int | str]],
    *,
    more: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] = (),
    size: int | str = SIZE,
    opset: int = 17,
    n: int | str = "N",
    seed: int = 5,
) -> onnx.ModelProto:
    """A detector.

    Args:
        text: the nodes behind the layers.
        layers: the number of columns of each layer, a 1 x 1 convolution of each level's map.
        outputs: the shapes of the outputs.
        more: constants.
        names: the names of classes in the metadata.
        size: the sides of the picture, "S" for symbolic ones.
        opset: the opset.
        n: the number of images.
        seed: what weights are drawn by.
    """
    random = np.random.default_rng(seed)
    shapes = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (6, 4, 3, 3), "b2": (6,), "w3": (5, 6, 3, 3), "b3": (5,)}
    weights: dict[str, np.ndarray] = {
        name: random.normal(0, 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 4), shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name, count in layers.items():
        for k in LEVELS:
            spread = 1.5 if name in ("cls", "obj") else 0.5
            weights[f"{name}w{k}"] = random.normal(0, spread, (count, _CHANNELS[k], 1, 1)).astype(np.float32)
            weights[f"{name}b{k}"] = random.normal(0, 0.2, count).astype(np.float32)
    declared = ", ".join(f"float[{','.join(map(str, dims))}] {name}" for name, dims in outputs.items())
    sides = ("H", "W") if isinstance(size, str) else (size, size)
    model = build(
        TRUNK + "".join(conv(name) for name in layers) + text,
        {**weights, **(more or {})},
        inputs=f"float[{n},3,{sides[0]},{sides[1]}] image",
        outputs=declared,
        opset=opset,
    )
    if names:
        model.metadata_props.add(key="names", value=str(dict(enumerate(names))))
    return model


def grid(shift: float) -> tuple[np.ndarray, np.ndarray]:
    """The places of all candidates in pixels, `[Q, 2]`, and their strides, `[Q, 1]`."""
    points = [(np.stack(np.meshgrid(*[np.arange(SIZE // s)] * 2), -1).reshape(-1, 2) + shift) * s for s in LEVELS]
    strides = [np.full((count, 1), s) for s, count in zip(LEVELS, COUNTS, strict=True)]
    return np.concatenate(points), np.concatenate(strides).astype(float)


def flat(name: str, columns: int) -> str:
    """A layer's levels as one tensor `name [N, columns, Q]`."""
    return per_level(f"{name}f# = Reshape({name}#, to{columns})\n") + f"{name} = Concat<axis=2>({name}f4, {name}f8)\n"


def to(*columns: int) -> dict[str, np.ndarray]:
    """The shapes that `flat` reshapes to."""
    return {f"to{count}": np.array([0, count, -1]) for count in columns}


def yolox(*, names: Sequence[str] = ()) -> onnx.ModelProto:
    """YOLOX without decoding: `[N, Q, 5 + C]`, boxes raw, objectness and classes by sigmoids."""
    text = per_level("so# = Sigmoid(obj#) sc# = Sigmoid(cls#) all# = Concat<axis=1>(box#, so#, sc#)\n")
    text += flat("all", 5 + CLASSES) + "output = Transpose<perm=[0,2,1]>(all)"
    layers = {"box": 4, "obj": 1, "cls": CLASSES}
    outputs = {"output": ("N", PLACES, 5 + CLASSES)}
    return detector(text, layers, outputs, more=to(5 + CLASSES), names=names)


def nanodet() -> onnx.ModelProto:
    """NanoDet-Plus: `[N, Q, C + 4 bins]`, classes first by sigmoids, then bins of distances."""
    text = per_level("sc# = Sigmoid(cls#) all# = Concat<axis=1>(sc#, box#)\n")
    text += flat("all", CLASSES + 4 * BINS) + "output = Transpose<perm=[0,2,1]>(all)"
    outputs = {"output": ("N", PLACES, CLASSES + 4 * BINS)}
    return detector(text, {"cls": CLASSES, "box": 4 * BINS}, outputs, more=to(CLASSES + 4 * BINS))


def levels_apart(columns: int, scores: Columns, *, batch: bool = True, n: int | str = "N") -> onnx.ModelProto:
    """Scores by sigmoids and raw boxes in outputs of their own for each level, `[N, n, .]`; or `[n, .]` of an image."""
    text, outputs = "", {}
    for name, count in {**scores, "box": columns}.items():
        made = "x# = Sigmoid({0}#) " if name != "box" else "x# = Identity({0}#) "
        made = made.replace("x#", f"x{name}#").format(name)
        text += per_level(f"{made} m{name}# = Transpose<perm=[0,2,3,1]>(x{name}#)\n")
        text += per_level(f"{name}_# = Reshape(m{name}#, shape_{name})\n")
        for k, rows in zip(LEVELS, COUNTS, strict=True):
            outputs[f"{name}_{k}"] = (n, rows, count) if batch else (rows, count)
    more = {f"shape_{name}": np.array(([0] if batch else []) + [-1, count])
            for name, count in {**scores, "box": columns}.items()}  # fmt: skip
    return detector(text, {**scores, "box": columns}, outputs, more=more, n=n)


def one_map() -> onnx.ModelProto:
    """FastestDet: one map `[N, 5 + C, h, w]` of objectness, raw box and a softmax over the classes."""
    text = "so = Sigmoid(obj8) sc = Softmax<axis=1>(cls8) output = Concat<axis=1>(so, box8, sc)"
    outputs = {"output": ("N", 5 + CLASSES, 2, 2)}
    return detector(text, {"obj": 1, "box": 4, "cls": CLASSES}, outputs)


_DECODED = """
  boxt = Transpose<perm=[0,2,1]>(box)
  sizes = Exp(boxt)
  dl, dt, dr, db = Split<axis=2>(sizes)
  px, py = Split<axis=2>(points)
  l = Mul(dl, strides) t = Mul(dt, strides) r = Mul(dr, strides) b = Mul(db, strides)
  x1 = Sub(px, l) y1 = Sub(py, t) x2 = Add(px, r) y2 = Add(py, b)
"""


def _places() -> dict[str, np.ndarray]:
    """The constants that boxes are decoded by."""
    points, strides = grid(0.5)
    return {"points": points[None].astype(np.float32), "strides": strides[None].astype(np.float32)}


def decoded(form: str, *, softmax: bool = False) -> onnx.ModelProto:
    """Scores `[N, Q, C]` and decoded boxes `[N, Q, 4]` in a form: its order and unit, as "y1x1y2x2 fractions"."""
    order, unit = form.split()
    text = flat("cls", CLASSES) + flat("box", 4) + _DECODED + """
      clst = Transpose<perm=[0,2,1]>(cls)
      w = Sub(x2, x1) h = Sub(y2, y1)
      sx = Add(x1, x2) sy = Add(y1, y2)
      cx = Mul(sx, half) cy = Mul(sy, half)
    """  # fmt: skip
    listed = {
        "x1y1x2y2": "x1, y1, x2, y2",
        "y1x1y2x2": "y1, x1, y2, x2",
        "cxcywh": "cx, cy, w, h",
        "x1y1wh": "x1, y1, w, h",
    }
    text += f"told = Concat<axis=2>({listed[order]}) boxes = Mul(told, scale)"
    text += " scores = Softmax<axis=2>(clst)" if softmax else " scores = Sigmoid(clst)"
    more = {**_places(), "half": np.array(0.5, np.float32)}
    more["scale"] = np.array(1 if unit == "pixels" else 1 / SIZE, np.float32)
    outputs = {"scores": ("N", PLACES, CLASSES), "boxes": ("N", PLACES, 4)}
    return detector(text, {"cls": CLASSES, "box": 4}, outputs, more={**to(4, CLASSES), **more})


PICKED = {
    "sigmoid": "p = Sigmoid(clst)",
    "root": "objt = Transpose<perm=[0,2,1]>(obj) o = Sigmoid(objt) c = Sigmoid(clst) m = Mul(c, o) p = Sqrt(m)",
    "softmax": "whole = Softmax<axis=2>(clst) n = Shape<start=1, end=2>(whole) "
    "every = Slice(whole, zero, n, one) p = Slice(every, one, last, two)",
}
"""What makes the probabilities that rows are picked by; a softmax has the background as its first column."""


def picked_rows(how: str, above: float) -> onnx.ModelProto:
    """Boxes `[n, 4]`, scores `[n]` and labels `[n]` of one image, picked as torchvision's detectors do.

    What is above a threshold is suppressed class by class, by boxes that are moved apart, in a branch that is taken
    where there is something at all.
    """
    first = int(how == "softmax")
    text = flat("cls", CLASSES) + flat("box", 4) + (flat("obj", 1) if how == "root" else "") + _DECODED + f"""
      clst = Transpose<perm=[0,2,1]>(cls)
      {PICKED[how]}
      told = Concat<axis=2>(x1, y1, x2, y2)
      boxes1 = Squeeze(told, zero)
      list = Reshape(p, all)
      is_above = Greater(list, above)
      found = NonZero(is_above)
      at = Squeeze(found, zero)
      listed = Gather(list, at)
      class = Mod(at, count)
      label = Add(class, first)
      row = Div(at, count)
      box1 = Gather(boxes1, row)
      number = Size(box1)
      none = Equal(number, nothing)
      kept = If(none) <then_branch = nobody () => (int64[n] empty) {{ empty = Identity(no_rows) }},
        else_branch = somebody () => (int64[k] keep) {{
          largest = ReduceMax<keepdims=0>(box1) label_f = Cast<to=1>(label) off = Mul(label_f, largest)
          offs = Unsqueeze(off, one) apart = Add(box1, offs) apart1 = Unsqueeze(apart, zero)
          listed1 = Unsqueeze(listed, zeros) chosen = NonMaxSuppression(apart1, listed1, most, iou)
          third = Gather<axis=1>(chosen, two) keep = Squeeze(third, one) }}>
      scores = Gather(listed, kept)
      labels = Gather(label, kept)
      boxes = Gather(box1, kept)
    """  # fmt: skip
    more = {
        **_places(), "zero": np.array([0]), "one": np.array([1]), "two": np.array([2]), "zeros": np.array([0, 1]),
        "all": np.array([-1]), "last": np.array([1 << 40]), "above": np.array(above, np.float32),
        "count": np.array(CLASSES - first), "first": np.array(first), "nothing": np.array(0),
        "no_rows": np.zeros(0, np.int64), "most": np.array([1 << 40]), "iou": np.array([0.5], np.float32),
    }  # fmt: skip
    layers = {"cls": CLASSES, "box": 4, **({"obj": 1} if how == "root" else {})}
    model = detector(text, layers, {"boxes": ("n", 4), "scores": ("n",)}, more={**to(1, 4, CLASSES), **more}, n=1)
    model.graph.output.append(onnx.helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, ["n"]))
    return model


def heat_map(*, faces: bool = False) -> onnx.ModelProto:
    """CenterNet: a heat map, sizes and offsets; or CenterFace, with one class and landmarks."""
    count = 1 if faces else CLASSES
    text = "hm = Sigmoid(cls4) wh = Identity(size4) reg = Identity(offset4)"
    layers = {"cls": count, "size": 2, "offset": 2}
    outputs = {"hm": ("N", count, 4, 4), "wh": ("N", 2, 4, 4), "reg": ("N", 2, 4, 4)}
    if faces:
        text += " points = Identity(point4)"
        layers, outputs = {**layers, "point": 10}, {**outputs, "points": ("N", 10, 4, 4)}
    return detector(text, layers, outputs)


def queries(*, names: Sequence[str] = (), reference: bool = False) -> onnx.ModelProto:
    """DETR: logits `[N, Q, C + 1]` and boxes `[N, Q, 4]` by a sigmoid; or with points of reference, and C classes."""
    text = flat("cls", CLASSES + 1) + flat("box", 4) + "logits = Transpose<perm=[0,2,1]>(cls) "
    text += "boxt = Transpose<perm=[0,2,1]>(box) hidden = Relu(boxt) mlp = MatMul(hidden, weights) "
    text += "shifted = Add(mlp, reference) " if reference else "shifted = Identity(mlp) "
    text += "pred_boxes = Sigmoid(shifted)"
    random = np.random.default_rng(8)
    more = {"weights": random.normal(0, 1, (4, 4)).astype(np.float32),
            "reference": random.normal(0, 1, (1, PLACES, 4)).astype(np.float32)}  # fmt: skip
    outputs = {"logits": ("N", PLACES, CLASSES + 1), "pred_boxes": ("N", PLACES, 4)}
    layers = {"cls": CLASSES + 1, "box": 4}
    return detector(text, layers, outputs, more={**to(4, CLASSES + 1), **more}, names=names)


_CORNERS = flat("cls", CLASSES) + flat("box", 4) + """
  p = Sigmoid(cls)
  pt = Transpose<perm=[0,2,1]>(p)
  boxt = Transpose<perm=[0,2,1]>(box)
  d0 = Exp(boxt)
  d = Mul(d0, strides)
  lt, rb = Split<axis=2>(d)
  x1y1 = Sub(points, lt)
  x2y2 = Add(points, rb)
  boxes = Concat<axis=2>(x1y1, x2y2)
"""  # fmt: skip
"""Probabilities pt `[N, Q, C]` and corners boxes `[N, Q, 4]`."""


def rows(count: int = 8, *, filled_up: bool = False) -> onnx.ModelProto:
    """An end-to-end head: `[N, n, 6]` of x1 y1 x2 y2 p class, the best cells of the table by TopK.

    With `filled_up` there are two rows of zeros behind them, written as Ultralytics does it, for one image.
    """
    text = _CORNERS + """
      flatp = Reshape(pt, all)
      best, place = TopK<axis=1>(flatp, k)
      row = Div(place, c)
      used = Mul(row, c)
      label = Sub(place, used)
      index = Unsqueeze(row, two)
      indices = Expand(index, fours)
      picked = GatherElements<axis=1>(boxes, indices)
      labelf = Cast<to=1>(label)
      pcol = Unsqueeze(best, two)
      lcol = Unsqueeze(labelf, two)
      best_rows = Concat<axis=2>(picked, pcol, lcol)
    """  # fmt: skip
    if filled_up:
        text += """
          list = Reshape(best_rows, flat)
          longer = Pad(list, twelve)
          more = Reshape(longer, sixes)
          output = ScatterND(empty, first, more)
        """
    else:
        text += "output = Identity(best_rows)"
    points, strides = grid(0.5)
    more = {
        "points": points[None].astype(np.float32), "strides": strides[None].astype(np.float32),
        "all": np.array([0, PLACES * CLASSES]), "k": np.array([count]), "c": np.array(CLASSES), "two": np.array([2]),
        "fours": np.array([1, 1, 4]), **to(4, CLASSES), "flat": np.array([-1]), "twelve": np.array([0, 12]),
        "sixes": np.array([1, count + 2, 6]), "first": np.array([[0]]),
        "empty": np.zeros((1, count + 2, 6), np.float32),
    }  # fmt: skip
    n: int | str = 1 if filled_up else "N"
    outputs = {"output": (n, count + 2 * filled_up, 6)}
    return detector(text, {"cls": CLASSES, "box": 4}, outputs, more=more, n=n)


def plugin(op: str, **settings: float) -> onnx.ModelProto:
    """Scores and boxes that only a plugin of TensorRT reads, which makes the outputs."""
    centred = settings.get("box_coding") == 1
    model = decoded("cxcywh pixels" if centred else "x1y1x2y2 pixels")
    outputs = ["num_dets", "det_boxes", "det_scores", "det_classes"]
    model.graph.node.append(onnx.helper.make_node(op, ["boxes", "scores"], outputs, domain="TRT", **settings))
    del model.graph.output[:]
    kinds = zip(outputs, (6, 1, 1, 6), (2, 3, 2, 2), strict=True)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, [None] * r) for name, kind, r in kinds)
    model.opset_import.append(onnx.helper.make_opsetid("TRT", 1))
    return model


def anchors_apart(*, raw: bool = False) -> onnx.ModelProto:
    """YOLOv5 level by level: `[N, 2, h, w, 5 + C]`, by one sigmoid or raw; the anchors are not in the file."""
    count = 5 + CLASSES
    text = per_level("r# = Reshape(all#, split#) t# = Transpose<perm=[0,1,3,4,2]>(r#) p# = LAST(t#)\n")
    text = text.replace("LAST", "Identity" if raw else "Sigmoid")
    more = {f"split{k}": np.array([0, 2, count, SIZE // k, SIZE // k]) for k in LEVELS}
    outputs = {f"p{k}": ("N", 2, SIZE // k, SIZE // k, count) for k in LEVELS}
    return detector(text, {"all": 2 * count}, outputs, more=more)


def suppressed(order: str = "ibcp") -> onnx.ModelProto:
    """NonMaxSuppression inside: `[n, 7]` of image, box, class and p (YOLOv7), or image, box, p and class (YOLO-NAS)."""
    text = _CORNERS + """
      chosen = NonMaxSuppression(boxes, p, most, iou, conf)
      icol = Gather<axis=1>(chosen, zero)
      ccol = Gather<axis=1>(chosen, one)
      places = Gather<axis=1>(chosen, image_and_place)
      bcols = GatherND(boxes, places)
      swapped = Gather<axis=1>(chosen, cell)
      pick = GatherND(pt, swapped)
      pcol = Unsqueeze(pick, one)
      icolf = Cast<to=1>(icol)
      ccolf = Cast<to=1>(ccol)
    """  # fmt: skip
    columns = {"i": "icolf", "b": "bcols", "c": "ccolf", "p": "pcol"}
    text += f"output = Concat<axis=1>({', '.join(columns[one] for one in order)})"
    points, strides = grid(0.5)
    more = {
        "points": points[None].astype(np.float32), "strides": strides[None].astype(np.float32),
        "most": np.array([20]), "iou": np.array([0.45], np.float32), "conf": np.array([0.25], np.float32),
        "zero": np.array([0]), "one": np.array([1]), "image_and_place": np.array([0, 2]), "cell": np.array([0, 2, 1]),
        **to(4, CLASSES),
    }  # fmt: skip
    return detector(text, {"cls": CLASSES, "box": 4}, {"output": ("n", 7)}, more=more)


def of_one_picture(model: onnx.ModelProto) -> onnx.ModelProto:
    """The detector of one picture `[3,S,S]`, without an axis of images, as torchvision's are exported."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    shape = made.graph.input[0].type.tensor_type.shape
    del shape.dim[0]
    made.graph.input[0].name = "picture"
    axis = onnx.numpy_helper.from_array(np.array([0]), "picture_axis")
    made.graph.initializer.append(axis)
    made.graph.node.insert(0, onnx.helper.make_node("Unsqueeze", ["picture", axis.name], ["image"]))
    return made
