"""This module reads the `preprocessor_config.json` and `processor_config.json` of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects.hugging_face.classes import FOLLOWED, NOT_FOLLOWED, Processor, class_defaults
from onnx_xcam.producers.dialects.hugging_face.stated import Stated
from onnx_xcam.producers.dialects.hugging_face.values import interpolation, values
from onnx_xcam.producers.statement import Statement
from onnx_xcam.text import printable

FILES = ("processor_config.json", "preprocessor_config.json")
"""The names of the files; of two, transformers read the first one (`get_image_processor_config`)."""

_STEPS = frozenset({"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad"})
BASE_KEYS = _STEPS | frozenset(
    {"size", "resample", "crop_size", "rescale_factor", "image_mean", "image_std", "pad_size", "default_to_square"}
)
"""The keys of the base pipeline."""
_INERT = frozenset(
    {
        "_processor_class",
        "_valid_processor_keys",
        "auto_map",
        "data_format",
        "device",
        "disable_grouping",
        "do_convert_annotations",
        "do_convert_rgb",
        "do_reduce_labels",
        "feature_extractor_type",
        "format",
        "ignore_index",
        "image_processor_type",
        "image_seq_length",
        "input_data_format",
        "max_size",
        "model_input_names",
        "num_labels",
        "processor_class",
        "reduce_labels",
        "return_tensors",
    }
)
"""The keys that do not change a picture; `max_size` (DETR) only goes with a size that follows the photo."""
_NOT_KNOWN = Processor(follows=frozenset({"do_flip_channel_order"}))
_MOST_REMARKS = 5


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the configuration of an image processor, or holds one under "image_processor".

    The configuration of a processor of sound, which has a sampling rate, is none.
    """
    data = _picture_part(file.data)
    return (
        data is not None
        and "sampling_rate" not in data
        and (
            any(str(key).startswith("do_") for key in data)
            or bool({"image_mean", "image_processor_type", "feature_extractor_type"} & data.keys())
        )
    )


def read(file: DescriptionFile) -> Statement:
    """Return what the configuration of an image processor states.

    Of a known class, the keys are read that the class reads; the library passes over others. A class that is not known
    is read by the base pipeline, with a remark on that and on each key that may mean more; its file may state values
    alone.

    Raises:
        PreprocessError: a value is impossible, or the file asks for something that cannot be followed.
    """
    data = _picture_part(file.data) or {}
    source = file.source if data is file.data else f"{file.source}: image_processor"
    name = _class_name(data)
    if name is not None and name in NOT_FOLLOWED:
        raise Stated(source, name, data).not_followed(f"{name} {NOT_FOLLOWED[name]}")
    remarks: list[str] = []
    if name is not None and name in FOLLOWED:
        way, defaults = FOLLOWED[name], class_defaults()[name]
    else:
        way, defaults = _NOT_KNOWN, _guessed_defaults(data)
        remarks = [_not_verified(source, name), *_remarks(source, data, way.follows)]
    stated = Stated(source, name, *(_read_of(one, way) for one in (data, defaults)))
    for key, what in way.refuses.items():
        if stated.flag(key):
            raise stated.not_followed(f"{key} {what}")
    states_geometry = way is not _NOT_KNOWN or stated.get("size") is not None
    settings = {
        **(way.geometry(stated) if states_geometry else {}),
        **interpolation(stated, antialias=way.antialias),
        **values(stated, flipped=way.bgr),
        "channels": "BGR" if way.bgr or stated.flag("do_flip_channel_order") else "RGB",
    }
    return Statement.of(source, settings, remarks=remarks)


def _picture_part(data: Any) -> Mapping[str, Any] | None:
    """Return the part of a file that describes an image processor: "image_processor", else the whole; else None."""
    if not isinstance(data, Mapping):
        return None
    inner = data.get("image_processor")
    return inner if isinstance(inner, Mapping) else data


def _class_name(data: Mapping[str, Any]) -> str | None:
    """Return the name of the class of a file, as `AutoImageProcessor` finds it, or None."""
    name = data.get("image_processor_type") or data.get("feature_extractor_type")
    if not isinstance(name, str):
        return None
    return name.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")


def _read_of(keys: Mapping[str, Any], way: Processor) -> dict[str, Any]:
    """Return the keys that a class reads; transformers pass over all others."""
    read_keys = (BASE_KEYS | way.follows | way.refuses.keys()) - way.ignores
    return {key: keys[key] for key in sorted(read_keys) if key in keys}


def _guessed_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults for a class that is not known: those that most classes have.

    A size of one number is the shorter side where a crop follows.
    """
    return {
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": data.get("image_mean") is not None,
        "image_std": 1.0,
        "crop_size": data.get("size"),
        "default_to_square": not data.get("do_center_crop"),
    }


def _not_verified(source: str, name: str | None) -> str:
    """Return the remark that the class of a file is not known."""
    if name is None:
        return (
            f"{source}: image_processor_type is missing; the usual steps are taken: resize, crop, rescale, normalise."
        )
    return (
        f"{source}: image_processor_type is {printable(name)[:80]}, which is not known; the usual steps are taken: "
        "resize, crop, rescale, normalise."
    )


def _remarks(source: str, data: Mapping[str, Any], follows: frozenset[str]) -> list[str]:
    """Return remarks on the keys of a class that is not known which may change a picture and are not read.

    Raises:
        PreprocessError: a step that is switched on is not followed.
    """
    known = BASE_KEYS | _INERT | follows
    unread = [str(key) for key, value in data.items() if key not in known and value is not None and value is not False]
    for key in unread:
        if key.startswith("do_"):
            raise Stated(source, None, data).not_followed(f"the step {printable(key)[:80]} is switched on")
    shown = [f"{source}: {printable(key)[:80]} is not followed." for key in unread[:_MOST_REMARKS]]
    if len(unread) > _MOST_REMARKS:
        shown.append(f"{source}: {len(unread) - _MOST_REMARKS} more keys are not followed.")
    return shown
