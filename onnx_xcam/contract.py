"""This module states the interface of an instrumented model (version 1): all that surgery and runtime share.

Shapes use N = batch, K = classes or objects explained per image, M = 1 or N, C = number of classes, h, w = the
layer's spatial size, H, W = the input's spatial size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from onnx_xcam.text import listed, quoted

VERSION = 1
METADATA_KEY = "onnx_xcam"
"""The key of `metadata_props` under which an instrumented model describes itself; see `onnx_xcam.metadata`."""

ADDED = "xcam_"
"""The prefix of the names of all added tensors."""

CLASS_INPUT = "xcam_class"
"""The input of the classes to explain, int64 [M,K]; -1 is the model's own top class, -2 the second best, and so on."""

CLASSES = "xcam_classes"
"""The output of the resolved classes, int64 [N,K]."""

SCORES = "xcam_scores"
"""The output of the scores of the resolved classes, before any softmax, float32 [N,K]."""

OBJECT_INPUT = "xcam_object"
"""The input of the objects to explain, int64 [M,K], of a task with candidates: -1 is the best object that is kept, -2
the second best, and so on; 0 and above is a candidate itself (an anchor, a query, a row)."""

AGAINST_INPUT = "xcam_against"
"""The input of the classes that the explained ones are contrasted with, int64 [M,K]; -1 is none. It exists only where
it was asked for."""

CHOICE_INPUTS = (CLASS_INPUT, OBJECT_INPUT, AGAINST_INPUT)
"""The inputs that choose what is explained; a model has those that its task knows."""

OBJECTS = "xcam_objects"
"""The output of the candidates that were explained, int64 [N,K]; -1 where there is no such object."""

BOXES = "xcam_boxes"
"""The output of the objects' boxes, float32 [N,K,4]: x1, y1, x2, y2 in pixels of the model's input."""

PROBABILITIES = "xcam_probabilities"
"""The output of what the model itself tells for the explained candidates and classes, float32 [N,K]."""

FUSED = "xcam_fused"
"""The output of the fused maps of several layers, float32 [N,K,h,w], on the grid of the finest of them."""

Layout = Literal["NCHW", "NHWC", "NTC", "NCT", "TNC"]
"""What the axes of a layer mean: N images, C channels, H height and W width, or T tokens."""
ClassInput = Literal["optional", "required", "fixed"]
Task = Literal["classification", "detection", "segmentation", "embedding", "keypoints", "text", "regression", "anomaly"]
"""What a model is for, which says what the cells of its score table are."""
Emit = Literal["map", "activations", "gradients", "heatmap", "status"]
ExternalDataChoice = Literal["auto", "share", "copy", "inline"]
"""What `onnx_xcam.instrument_file` does with weights in other files; its docstring explains the choices."""

LAYOUTS: tuple[Layout, ...] = get_args(Layout)
CLASS_INPUTS: tuple[ClassInput, ...] = get_args(ClassInput)
TASKS: tuple[Task, ...] = get_args(Task)
EMITS: tuple[Emit, ...] = get_args(Emit)
EXTERNAL_DATA_CHOICES: tuple[ExternalDataChoice, ...] = get_args(ExternalDataChoice)
OF_LAYERS: tuple[Emit, ...] = ("activations", "gradients")
"""These outputs belong to a layer, and the others to a map, which may be the sum of several layers' maps."""
DEFAULT_EMIT: tuple[Emit, ...] = ("map", "activations", "gradients")


def images_first(layout: Layout) -> Layout:
    """Return the layout of a layer's outputs (`xcam_activations`, `xcam_gradients`): its own, but images first."""
    return "NTC" if layout == "TNC" else layout


class Grid(NamedTuple):
    """A Grid says where a picture's tokens stand in the T axis of a layer: row by row, between other tokens.

    Attributes:
        height, width: the grid's sides in tokens; None where they depend on the picture.
        before, after: how many other tokens (class, distillation, registers) stand before and after the grid.
    """

    height: int | None
    width: int | None
    before: int
    after: int

    @property
    def size(self) -> int | None:
        """Return the number of the grid's own tokens, None where it depends on the picture."""
        return None if self.height is None or self.width is None else self.height * self.width

    @property
    def tokens(self) -> slice:
        """Return the grid's own part of the T axis."""
        return slice(self.before, -self.after or None)


class Window(NamedTuple):
    """A Window says which part of the model's input layers cover, as fractions: 0 and 1 are the edges of the input.

    Layers cover more than the input, from below 0 or to above 1, where the model pads its picture, and less where it
    crops.

    Attributes:
        top, left, bottom, right: where the layers begin and end.
    """

    top: float
    left: float
    bottom: float
    right: float


STATUS_TEXT: Mapping[int, str] = {
    0: "good",
    1: "the map is zero everywhere: nothing in this layer speaks for the class",
    2: "the gradient is zero everywhere: the score does not react to this layer here",
    3: "the map, the gradient or the score holds values that are not finite",
    4: "there is no such object: its map and its box are zero",
}
"""What each value of `xcam_status` means."""
GOOD, MAP_ZERO, GRADIENT_ZERO, NOT_FINITE, NO_OBJECT = STATUS_TEXT


def output_name(kind: Emit, layer: int = 0) -> str:
    """Return the name of the output of `kind` for the layer with this index: `xcam_map`, `xcam_map_1`, ..."""
    return f"xcam_{kind}" + (f"_{layer}" if layer else "")


class Probabilities(NamedTuple):
    """Probabilities say which output gives the model's own probabilities, and how they are computed from it.

    Attributes:
        output: the name of the output.
        how: the function that makes probabilities of it: "none", "exp", or, for an output of scores, "sigmoid" or
            "softmax".
        scale, zero_point: an output of quantised integers stands for (output - zero_point) scale.
    """

    output: str
    how: str
    scale: float = 1.0
    zero_point: float = 0.0

    def stated(self) -> list[str | float]:
        """Return the fields as the metadata state them; scale and zero point only where the output is quantised."""
        return [*self] if (self.scale, self.zero_point) != (1.0, 0.0) else [self.output, self.how]


def is_instrumented(names: Iterable[str]) -> bool:
    """Tell whether a graph with these output names is an instrumented model."""
    return CLASSES in set(names)


IMAGE_CHANNELS = (1, 3, 4)
"""The numbers of channels that a picture can have: grey, RGB, RGBA."""


def image_axes(shape: Sequence[int | str | None]) -> tuple[int, int] | None:
    """Return the axes of height and width of an image input, None if the shape is no image's.

    Channels (1, 3 or 4) stand first, `[N,C,H,W]`, or last, `[N,H,W,C]`; where neither is such a number, on the axis of
    unknown length, and of two such axes first. A picture is higher and wider than one pixel. Pictures of other
    channels, as `[N,13,H,W]`, are not meant; `side_axes` tells theirs.
    """
    if len(shape) != 4 or channel_count(shape) not in (None, *IMAGE_CHANNELS):
        return None
    first = shape[1] in IMAGE_CHANNELS or (not isinstance(shape[1], int) and shape[3] not in IMAGE_CHANNELS)
    if not first and isinstance(shape[3], int) and shape[3] not in IMAGE_CHANNELS:
        return None
    height, width = (2, 3) if first else (1, 2)
    return None if 1 in (shape[height], shape[width]) else (height, width)


def lacks_images(shape: Sequence[int | str | None]) -> bool:
    """Tell whether the shape of an input is that of one colour picture `[3,H,W]`, without an axis of images."""
    return len(shape) == 3 and shape[0] == 3 and 1 not in shape


def picture_sides(shape: Sequence[int | str | None]) -> tuple[int, int] | None:
    """Return the axes of height and width of an image input, as `image_axes`, or of one colour picture `[3,H,W]`."""
    return (1, 2) if lacks_images(shape) else image_axes(shape)


def unused_note(names: Sequence[str]) -> str:
    """Return the note that these inputs play no part in the score and are fed zeros."""
    inputs = listed(quoted(names), rest="others")
    if len(names) == 1:
        return f"Input: {inputs} plays no part in the score; it is fed zeros."
    return f"Inputs: {inputs} play no part in the score; they are fed zeros."


_LEAST_SIDE = 8
"""A picture is at least so many pixels high and wide; an axis that is shorter may be the channels."""
_INVENTED = "unk__"
"""Symbols that shape inference and tf2onnx invent for unknown dimensions begin so."""
_LONGEST_SYMBOL = 24
"""Longer names of symbolic dimensions are cut to so many characters in messages."""


def input_kind(shape: Sequence[int | str | None], kind: str) -> str | None:
    """Describe, for messages, what an input without pictures seems to take; return None for one that takes pictures.

    Args:
        shape: the input's shape.
        kind: its element type, such as "float32", "int64" or "string".
    """
    if image_axes(shape) is not None and kind not in ("bool", "string"):
        return None
    of_kind = {
        "string": "texts, or pictures that are still encoded",
        "int32": "whole numbers, as tokens of a text are" if len(shape) <= 2 else "",
        "int64": "whole numbers, as tokens of a text are" if len(shape) <= 2 else "",
        "uint8": "the bytes of an encoded picture" if len(shape) == 1 else "",
    }
    of_rank = {2: _kind_of_two, 3: _kind_of_three, 4: _kind_of_four, 5: _kind_of_five}
    if description := of_kind.get(kind):
        return description
    if len(shape) in of_rank:
        return of_rank[len(shape)](shape)
    return "no pictures"


def _is_side(*dims: int | str | None) -> bool:
    """Tell whether all of these dimensions are numbers that may be a picture's height or width."""
    return all(isinstance(dim, int) and dim >= _LEAST_SIDE for dim in dims)


def _kind_of_two(shape: Sequence[int | str | None]) -> str:
    """Describe what an input of two axes seems to take."""
    pictured = "a picture without axes of images and channels"
    return pictured if _is_side(*shape) else "rows of numbers [N,F]: a table, a signal, or pictures laid flat"


def _kind_of_three(shape: Sequence[int | str | None]) -> str:
    """Describe what an input of three axes seems to take."""
    first, second, third = shape
    if (first in IMAGE_CHANNELS and _is_side(second, third)) or (third in IMAGE_CHANNELS and _is_side(first, second)):
        return "a picture without the axis of images"
    if second == third and _is_side(second, third):
        return "pictures without the axis of channels"
    return "signals or sequences [N,C,L]"


def _kind_of_five(shape: Sequence[int | str | None]) -> str:
    """Describe what an input of five axes seems to take: frames have three channels, and a volume has any other."""
    if shape[2] == 3:
        return "videos [N,T,C,H,W]"
    if shape[4] == 3:
        return "videos [N,T,H,W,C]"
    return "videos [N,C,T,H,W]" if shape[1] == 3 else "volumes [N,C,D,H,W]"


ImageLayout = Literal["NCHW", "NHWC"]
_MANY = 4
"""Beside an axis of unknown length one of known length is the channels' if the sides are so many times longer."""


def picture_layout(shape: Sequence[int | str | None], layout: ImageLayout | None = None) -> ImageLayout | None:
    """Return where the channels of pictures of any number of channels stand in a shape; None if it is no picture's.

    The channels are the axis of length 1 or 3, else 4, of axis 1 and axis 3. Where none of these is so long, pictures
    have other channels, as satellites' have: of two lengths, the channels' is the one that leaves a square, else the
    smaller. An axis of unknown length is taken for the channels if no other can be.

    Args:
        shape: the input's shape, in which dimensions that are not positive integers are open.
        layout: where the channels are said to stand, which the shape may contradict.
    """
    if len(shape) != 4:
        return None
    dims = [dim if isinstance(dim, int) and dim > 0 else None for dim in shape]
    allowed: tuple[ImageLayout, ...] = (layout,) if layout else ("NCHW", "NHWC")
    of_layout = {one: (dims[1], dims[2:]) if one == "NCHW" else (dims[3], dims[1:3]) for one in allowed}
    for usual in ((1, 3), (4,)):
        for one, (channels, _) in of_layout.items():
            if channels in usual:
                return one
    likely = [
        one for one, (_, sides) in of_layout.items() if all(side is None or side >= _LEAST_SIDE for side in sides)
    ]
    return min(likely, key=lambda one: _unlikeliness(*of_layout[one], len(likely) > 1), default=None)


def _unlikeliness(channels: int | None, sides: Sequence[int | None], is_choice: bool) -> tuple[int, int]:
    """Return a sort key for a layout, by its channels and sides; the first is the likeliest, and NCHW of equal ones."""
    if channels is None:
        return 1, 0
    known = [side for side in sides if side is not None]
    if len(known) < 2:  # the other layout's channels are open
        return (0 if not is_choice or all(side >= _MANY * channels for side in known) else 2), channels
    return (0 if known[0] == known[1] else 1), channels


def side_axes(shape: Sequence[int | str | None]) -> tuple[int, int] | None:
    """Return the axes of height and width of pictures of any number of channels, None if the shape is no picture's."""
    layout = picture_layout(shape)
    return None if layout is None else (2, 3) if layout == "NCHW" else (1, 2)


def channel_count(shape: Sequence[int | str | None]) -> int | None:
    """Return how many channels pictures of this shape have, None if it is no picture's or leaves the number open."""
    layout = picture_layout(shape)
    channels = None if layout is None else shape[1 if layout == "NCHW" else 3]
    return channels if isinstance(channels, int) and channels > 0 else None


def _kind_of_four(shape: Sequence[int | str | None]) -> str:
    """Describe what an input of four axes seems to take, which no photo fits."""
    channels = channel_count(shape)
    return "no pictures" if channels is None else f"pictures of {channels} channels"


def shape_text(shape: Sequence[int | str | None]) -> str:
    """Return a shape as messages show it: `[batch,3,224,?]`; long formulas in place of a symbol are cut."""
    return "[" + ",".join("?" if dim is None else _cut(str(dim)) for dim in shape) + "]"


def _cut(symbol: str) -> str:
    """Cut the name of a symbolic dimension to `_LONGEST_SYMBOL` characters; an invented one says nothing."""
    if symbol.startswith(_INVENTED):
        return "?"
    return symbol if len(symbol) <= _LONGEST_SYMBOL else symbol[: _LONGEST_SYMBOL - 1] + "…"
