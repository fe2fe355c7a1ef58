"""This module says where the image processors of transformers lay a photo into a model's input.

Each function takes what a file states, and returns settings of `Preprocess`; it raises a PreprocessError for what
cannot be followed. The base pipeline is resize, centre crop, pad (`TorchvisionBackend._preprocess`): the crop begins at
half the difference, cut down to a whole number; a photo smaller than the crop gets black borders, the odd row or column
behind. Other functions are named after what a class does otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_xcam.producers.dialects.hugging_face.stated import Size, Stated
from onnx_xcam.producers.dialects.hugging_face.values import value_of_zero

Geometry = Callable[[Stated], dict[str, Any]]

_SQUARE_FROM = 384
"""ConvNeXT's processor stretches the photo to a square of so many pixels or more, and crops below."""


def base(stated: Stated) -> dict[str, Any]:
    """Return the settings of the base pipeline: resize, then centre crop or pad where they are switched on."""
    return _laid_out(stated, stated.size("size"))


def cropped_below_384(stated: Stated) -> dict[str, Any]:
    """Return the settings of ConvNextImageProcessor: enlarged by 1 / crop_pct and cropped, stretched from 384 on."""
    side = stated.size("size").get("shortest_edge")
    if side is None:
        raise stated.wrong("size", "it must state shortest_edge")
    if side < _SQUARE_FROM:
        covered = int(side / stated.real("crop_pct"))
        return _laid_out(stated, {"shortest_edge": covered}, (side, side))
    return _laid_out(stated, {"height": side, "width": side})


def enlarged_by_crop_pct(stated: Stated) -> dict[str, Any]:
    """Return the settings of PoolFormerImageProcessor: the photo is scaled to size / crop_pct before the crop."""
    size = stated.size("size")
    part = stated.get("crop_pct")
    if part is not None:
        size = {name: int(side / stated.real("crop_pct")) for name, side in size.items()}
        if size.keys() == {"height", "width"} and size["height"] == size["width"]:
            size = {"shortest_edge": size["height"]}
    return _laid_out(stated, size)


def enlarged_by_256_224(stated: Stated) -> dict[str, Any]:
    """Return the settings of LevitImageProcessor: a shortest_edge of n scales the shorter side to n * 256 / 224."""
    size = stated.size("size")
    if "shortest_edge" in size:
        size = {"shortest_edge": int((256 / 224) * size["shortest_edge"])}
    return _laid_out(stated, size)


def shorter_side(stated: Stated) -> dict[str, Any]:
    """Return the settings of PPLCNetImageProcessor: `resize_short` is the shorter side, the other one is rounded."""
    if stated.get("resize_short") is None:
        return base(stated)
    if stated.get("size_divisor") not in (None, 1):
        raise stated.not_followed(f"size_divisor {stated.get('size_divisor')!r} stretches the photo by a few pixels")
    return _laid_out(stated, {"shortest_edge": stated.whole("resize_short")}) | {"size_rounding": "round"}


def cropped_first(stated: Stated) -> dict[str, Any]:
    """Return the settings of PerceiverImageProcessor: size / crop_size of the photo's shorter side is cut out first."""
    size = _sides(stated, "size")
    if not stated.flag("do_center_crop"):
        return _laid_out(stated, {"height": size[0], "width": size[1]})
    crop = _sides(stated, "crop_size")
    if size[0] != size[1] or crop[0] != crop[1] or size[0] > crop[0]:
        raise stated.not_followed(f"size {_by(size)} and crop_size {_by(crop)} cut an oblong or enlarged part out")
    _must_resize(stated)
    return {
        "size": size,
        "resize": "crop",
        "crop_fraction": size[0] / crop[0],
        "crop_first": True,
        "offset_rounding": "floor",
    }


def multiples(stated: Stated) -> dict[str, Any]:
    """Return the settings of DPTImageProcessor: both sides are rounded to multiples of `ensure_multiple_of`."""
    if stated.flag("keep_aspect_ratio"):
        raise stated.follows_the_photo("keep_aspect_ratio is true")
    if stated.flag("do_pad") and stated.get("size_divisor") is not None:
        raise stated.not_followed("do_pad adds borders up to a multiple of size_divisor")
    multiple = stated.whole("ensure_multiple_of")
    height, width = (max(1, round(side / multiple)) * multiple for side in _sides(stated, "size"))
    return _laid_out(stated, {"height": height, "width": width})


def whole_multiples(stated: Stated) -> dict[str, Any]:
    """Return the settings of MaskFormerImageProcessor: the base pipeline, for sides that are multiples already."""
    settings = base(stated)
    if stated.get("size_divisor") is not None and any(side % stated.whole("size_divisor") for side in settings["size"]):
        raise stated.not_followed(
            f"borders are added to {_by(settings['size'])} pixels, up to a multiple of size_divisor"
        )
    return settings


def on_a_square(stated: Stated) -> dict[str, Any]:
    """Return the settings of JanusImageProcessor: the longer side is scaled to `size`, the rest is coloured borders.

    The colour is `image_mean` in 0..255, cut down to whole numbers; the class does not read `background_color`.
    """
    height, width = _sides(stated, "size")
    if height != width:
        raise stated.wrong("size", "height and width must be the same")
    if not stated.flag("do_pad"):
        raise stated.follows_the_photo("do_pad is false")
    _must_resize(stated)
    colour = tuple(float(int(mean * 255)) for mean in stated.per_channel("image_mean"))
    return {"size": (height, width), "resize": "letterbox", "pad_value": colour}


def at_the_corner(stated: Stated) -> dict[str, Any]:
    """Return the settings of SamImageProcessor: the longer side is scaled, borders of 0 follow to the right and below.

    The borders are added after normalisation: their value 0 is another pixel value, not black.
    """
    size = stated.size("size")
    if set(size.values()) != {side := max(size.values())} or "shortest_edge" in size:
        raise stated.wrong("size", "it must be longest_edge, or height and width that are the same")
    _must_resize(stated)
    if not stated.flag("do_pad"):
        raise stated.follows_the_photo("do_pad is false")
    if stated.flag("do_center_crop"):
        raise stated.not_followed("do_center_crop cuts the scaled photo before borders are added")
    return _bordered(stated, (side, side), _sides(stated, "pad_size")) | {"size_rounding": "round"}


def _laid_out(stated: Stated, scaled: Size, crop: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the settings of a photo that is scaled to a size and then cropped, as the file says or to `crop`."""
    _must_resize(stated)
    if stated.flag("do_center_crop"):
        stated_crop = _sides(stated, "crop_size")
        if crop not in (None, stated_crop):
            raise stated.not_followed(f"a crop to {_by(stated_crop)} follows one to {_by(crop)}")
        crop = stated_crop
    padded = _sides(stated, "pad_size") if stated.flag("do_pad") and stated.get("pad_size") is not None else None
    if scaled.keys() == {"max_height", "max_width"} and padded and not crop:
        return _bordered(stated, (scaled["max_height"], scaled["max_width"]), padded) | {"size_rounding": "floor"}
    if scaled.keys() == {"height", "width"}:
        sides, rule = (scaled["height"], scaled["width"]), "stretch"
    elif scaled.keys() == {"shortest_edge"} and crop:
        sides, rule = (scaled["shortest_edge"], scaled["shortest_edge"]), "crop"
    elif scaled.keys() == {"max_height", "max_width"} and crop:
        sides, rule = (scaled["max_height"], scaled["max_width"]), "letterbox"
    else:
        names = " and ".join(f"{name} {side}" for name, side in scaled.items())
        if crop:
            raise stated.not_followed(f"size is {names}: the photo is scaled by one of two rules before the crop")
        raise stated.follows_the_photo(f"size is {names} without do_center_crop")
    size = crop or sides
    if padded not in (None, size):
        raise stated.not_followed(f"do_pad adds borders around {_by(size)} pixels, up to {_by(padded)}")
    if size == sides and rule == "stretch":
        return {"size": size, "resize": rule}
    rounding = {"size_rounding": "floor"} if rule == "letterbox" else {}
    return {"size": size, "resize": rule, "resize_size": sides, "offset_rounding": "floor", **rounding}


def _bordered(stated: Stated, scaled: tuple[int, int], padded: tuple[int, int]) -> dict[str, Any]:
    """Return the settings of a photo that is fitted into a size, at the top left corner of a size with borders of 0."""
    return {
        "size": padded,
        "resize": "letterbox",
        "resize_size": scaled,
        "align": "start",
        "pad_value": value_of_zero(stated),
    }


def _must_resize(stated: Stated) -> None:
    """Raise a PreprocessError where the photo is not scaled at all."""
    if stated.flag("do_resize"):
        return
    if stated.flag("do_center_crop") or stated.flag("do_pad"):
        raise stated.not_followed("do_resize is false: the photo is cropped or padded without being scaled")
    raise stated.follows_the_photo("do_resize is false")


def _sides(stated: Stated, key: str) -> tuple[int, int]:
    """Return (height, width) of a size that must state both."""
    size = stated.size(key)
    if size.keys() != {"height", "width"}:
        raise stated.wrong(key, "it must be a number of pixels, or height and width")
    return size["height"], size["width"]


def _by(size: tuple[int, int] | None) -> str:
    """Return a size as messages show it: `224x224`."""
    return "" if size is None else f"{size[0]}x{size[1]}"
