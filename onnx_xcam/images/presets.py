"""This module holds named preprocessings, and reads preprocessings from the files that come with models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_xcam.common import arguments
from onnx_xcam.common.descriptions import load_description, read_text
from onnx_xcam.common.files import is_file
from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields, number
from onnx_xcam.images.preprocess import Preprocess

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

PRESETS: Mapping[str, Preprocess] = {
    # torchvision's classifiers and most of timm's
    "imagenet": Preprocess(resize="crop", crop_fraction=0.875, scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
    # TensorFlow's classifiers (Inception, MobileNet, EfficientNetV2) and many vision transformers take -1..1
    "inception": Preprocess(resize="crop", crop_fraction=0.875, scale=1 / 255, mean=(0.5,), std=(0.5,)),
    # Caffe's classifiers, and Keras's VGG and ResNet, take blue first and 0..255 less the mean colour
    "caffe": Preprocess(resize="crop", crop_fraction=0.875, mean=(103.939, 116.779, 123.68), channels="BGR"),
    # OpenAI's CLIP
    "clip": Preprocess(resize="crop", interpolation="cubic", scale=1 / 255, mean=_CLIP_MEAN, std=_CLIP_STD),
    # Ultralytics' detectors and segmenters
    "yolo": Preprocess(resize="letterbox", antialias=False, scale=1 / 255, pad_value=114),
    # The whole photo in 0..255, in 0..1, and in 0..1 and grey
    "raw": Preprocess(),
    "unit": Preprocess(scale=1 / 255),
    "gray": Preprocess(scale=1 / 255, channels="GRAY"),
}
"""The named preprocessings. None of them states a size, which the model's own input does."""

_FILE_SUFFIXES = (".json", ".yaml", ".yml")
_PILLOW_RESAMPLE = ("nearest", "lanczos", "linear", "cubic")  # by Pillow's number; its box and Hamming are not offered
_TIMM_CROP_MODE = {"center": "crop", "squash": "stretch", "border": "letterbox"}
_HARMLESS_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order"} | {
    "do_convert_rgb",
    "do_reduce_labels",
}
"""The steps of a Hugging Face file that are followed here, or do not change a picture."""


def load_preprocess(spec: str | Path | Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing that a preset's name, a JSON or YAML file, or plain data state.

    Files and data hold the settings of `Preprocess` by name, perhaps with `preset: NAME` for the preset that they
    change; or they are a Hugging Face `preprocessor_config.json`, or a timm `config.json` (or its `pretrained_cfg`
    alone).

    Raises:
        PreprocessError: there is no such preset or file, the file is not JSON or YAML, a key is unknown, or a value is
            impossible.
    """
    if isinstance(spec, Mapping):
        return _from_data(spec, "preprocessing")
    if isinstance(spec, str) and spec in PRESETS:
        return PRESETS[spec]
    path = arguments.path("preprocess", spec, PreprocessError)
    if path.suffix.lower() not in _FILE_SUFFIXES:
        raise PreprocessError(
            f"preprocessing {str(spec)!r} is neither a preset nor a .json or .yaml file"
            f"{suggestion_of_few(str(spec), PRESETS)}"
        )
    return _from_data(_read(path), str(path))


def find_sidecar(model: str | Path) -> Path | None:
    """Return the file beside a model that states its preprocessing, or None if there is none.

    For the model `NAME.onnx` it is `NAME.preprocess.json` (or `.yaml`, `.yml`), else `preprocessor_config.json`.
    """
    model = Path(model)
    names = [f"{model.stem}.preprocess{suffix}" for suffix in _FILE_SUFFIXES]
    candidates = (model.with_name(name) for name in [*names, "preprocessor_config.json"])
    return next((path for path in candidates if is_file(path)), None)


def _read(path: Path) -> Mapping[str, Any]:
    """Return the settings in a JSON or YAML file, or raise a PreprocessError that says what is wrong with it."""
    try:
        data = load_description(read_text(path), path.suffix)
    except FileNotFoundError as error:
        raise PreprocessError(f"{path}: no such preprocessing file") from error
    except OSError as error:
        raise PreprocessError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise PreprocessError(f"{path}: not valid {path.suffix[1:].upper()}: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise PreprocessError(
            f"{path}: must hold settings by name, such as scale: 1/255; it holds {type(data).__name__}"
        )
    return data


def _from_data(data: Mapping[str, Any], source: str) -> Preprocess:
    """Return the preprocessing in plain data of one of three dialects, each known by keys that only it has."""
    if isinstance(inner := data.get("pretrained_cfg"), Mapping):
        return _from_timm(inner, f"{source}: pretrained_cfg")
    if "input_size" in data or {"crop_pct", "mean"} <= data.keys():
        return _from_timm(data, source)
    if any(str(key).startswith("do_") for key in data) or {"image_mean", "image_processor_type"} & data.keys():
        return _from_hugging_face(data, source)
    own = dict(data)
    base = own.pop("preset", None)
    if base is not None and str(base) not in PRESETS:
        raise PreprocessError(f"{source}: preset is {base!r}{suggestion_of_few(str(base), PRESETS)}")
    return (Preprocess() if base is None else PRESETS[str(base)]).replace(**check_fields(own, source))


def _from_timm(data: Mapping[str, Any], source: str) -> Preprocess:
    """Return the preprocessing of timm's data config, in which mean and std are for pixels in 0..1."""
    fields: dict[str, Any] = {"scale": 1 / 255, "mean": _IMAGENET_MEAN, "std": _IMAGENET_STD}
    size = data.get("input_size")
    if size is not None:
        if not isinstance(size, (list, tuple)) or len(size) != 3:
            raise PreprocessError(f"{source}: input_size is {size!r}; it must be [channels, height, width]")
        fields["size"] = size[1:]
        fields["channels"] = "GRAY" if size[0] == 1 else "RGB"
    mode = str(data.get("crop_mode") or "center")
    if mode not in _TIMM_CROP_MODE:
        raise PreprocessError(f"{source}: crop_mode is {mode!r}{suggestion_of_few(mode, _TIMM_CROP_MODE)}")
    fields["resize"] = _TIMM_CROP_MODE[mode]
    names = {"mean": "mean", "std": "std", "interpolation": "interpolation", "crop_pct": "crop_fraction"}
    fields |= {ours: data[theirs] for theirs, ours in names.items() if data.get(theirs) is not None}
    return Preprocess.from_dict(fields, source)


def _from_hugging_face(data: Mapping[str, Any], source: str) -> Preprocess:
    """Return the preprocessing of a `preprocessor_config.json`.

    Its steps are resize, centre crop, rescale and normalise, each switched by `do_...`.
    """
    for key, value in data.items():
        if key.startswith("do_") and value and key not in _HARMLESS_STEPS:
            raise PreprocessError(
                f"{source}: the step {key} is not supported; state the settings in a file of your own"
            )
    if not data.get("do_resize", True):
        raise PreprocessError(
            f"{source}: do_resize is false, but a model input needs a size; state the settings yourself"
        )
    fields = _hugging_face_geometry(data, source) | _hugging_face_values(data, source)
    resample = data.get("resample")
    if resample is not None:
        if resample not in range(len(_PILLOW_RESAMPLE)):
            raise PreprocessError(f"{source}: resample is {resample!r}; Pillow's filters 0 to 3 are supported")
        fields["interpolation"] = _PILLOW_RESAMPLE[resample]
    return Preprocess.from_dict(fields, source)


def _hugging_face_geometry(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of size, resize and crop that a `preprocessor_config.json` states."""
    size, crop = data.get("size"), data.get("crop_size")
    cropped = bool(data.get("do_center_crop", False))
    if size is None:
        return {}
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        size, rule = size["shortest_edge"], "crop"
    elif isinstance(size, Mapping) and set(size) == {"height", "width"}:
        size, rule = [size["height"], size["width"]], "stretch"
    elif isinstance(size, int):
        rule = "crop" if cropped else "stretch"  # the files of before 2023 state one number
    else:
        raise PreprocessError(f"{source}: size is {size!r}; supported are shortest_edge alone, or height and width")
    if rule == "crop" and data.get("crop_pct") is not None:  # ConvNeXT: enlarged by 1/crop_pct and cropped below 384
        side, _ = check_fields({"size": size}, source)["size"]
        if side < 384:
            return {"size": side, "resize": "crop", "crop_fraction": data["crop_pct"]}
        return {"size": side, "resize": "stretch"}
    if not cropped:
        if rule == "crop":
            raise PreprocessError(
                f"{source}: size is a shortest_edge without do_center_crop: the input has no fixed size"
            )
        return {"size": size, "resize": rule}
    if isinstance(crop, Mapping):
        crop = [crop.get("height"), crop.get("width")]
    crop = size if crop is None else crop
    try:
        inner, outer = (tuple(pair) if isinstance(pair, list) else (pair, pair) for pair in (crop, size))
        fractions = [number(i) / number(o) for i, o in zip(inner, outer, strict=True)]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise PreprocessError(f"{source}: crop_size is {crop!r} and size is {size!r}; both must be numbers") from error
    # For a shortest edge and an oblong crop the shorter photo side is not known here; the larger fraction keeps most.
    return {"size": list(inner), "resize": rule, "crop_fraction": max(fractions)}


def _hugging_face_values(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of scale, mean, std and channels that a `preprocessor_config.json` states.

    It means x = pixel * rescale_factor, then (x - image_mean) / image_std.
    """
    fields: dict[str, Any] = {"channels": "BGR" if data.get("do_flip_channel_order") else "RGB"}
    if data.get("do_rescale", True):
        fields["scale"] = data.get("rescale_factor") or 1 / 255
    checked = check_fields({"mean": data.get("image_mean") or 0.0, "std": data.get("image_std") or 1.0}, source)
    mean, std = checked["mean"], checked["std"]
    normalised = bool(data.get("do_normalize", data.get("image_mean") is not None))
    if not normalised:
        mean, std = (0.0,), (1.0,)
    if data.get("rescale_offset"):  # EfficientNet: 1 is subtracted after rescaling
        mean = tuple(m + 1.0 for m in mean)
    if data.get("include_top") and normalised:  # EfficientNet: divided by image_std a second time
        std = tuple(s * s for s in std)
    return fields | {"mean": mean, "std": std}
