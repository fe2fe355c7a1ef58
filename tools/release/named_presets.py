"""Write onnx_xcam/producers/tables from the weights that timm, torchvision and Keras publish.

python -m tools.release.named_presets           # write the tables
python -m tools.release.named_presets --check   # exit status 1 if they are not those of the installed libraries

Each table holds the distinct preprocessings of a library and, for every architecture, the tags of its weights, the
default one first. A library's own objects say it all: nothing is listed here by the name of a model.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers import likelihood, named
from onnx_xcam.producers.dialects import timm
from tools.common import command_line
from tools.common.generated import write_or_check

FOLDER = named.FOLDER
_PHOTOS = ((427, 640), (500, 375), (301, 333), (1080, 1920))
"""The (height, width) of photos for which two crops must be the same to count as one."""


class Table:
    """A Table collects the weights of a library, and numbers the preprocessings that differ."""

    def __init__(self, library: str, version: str) -> None:
        self.library, self.version = library, version
        self.rows: dict[str, int] = {}
        self.weights: dict[str, dict[str, int]] = defaultdict(dict)
        self.aliases: dict[str, str] = {}

    def add(self, architecture: str, tag: str, row: Mapping[str, Any]) -> None:
        """Add the weights of a tag with their preprocessing."""
        text = json.dumps(row, sort_keys=True)
        self.weights[architecture][tag] = self.rows.setdefault(text, len(self.rows))

    def text(self) -> str:
        """The JSON of the table, one line for each preprocessing and each architecture."""
        rows = ",\n".join(f"  {row}" for row in self.rows)
        weights = ",\n".join(f"  {json.dumps(name)}: {json.dumps(tags)}" for name, tags in sorted(self.weights.items()))
        aliases = json.dumps(dict(sorted(self.aliases.items())))
        head = f'"library": {json.dumps(self.library)}, "version": {json.dumps(self.version)}'
        return f'{{{head},\n"rows": [\n{rows}\n],\n"weights": {{\n{weights}\n}},\n"aliases": {aliases}\n}}\n'


def timm_table() -> Table:
    """The table of timm: every published weight, and the defaults of architectures without any."""
    import timm as library
    from timm.models import get_deprecated_models, get_pretrained_cfg, list_models

    table = Table("timm", library.__version__)
    published = library.list_pretrained()
    for architecture in list_models():
        own = [name.partition(".")[2] for name in published if name.partition(".")[0] == architecture]
        default = get_pretrained_cfg(architecture)
        tags = [default.tag or "", *own] if own else [""]  # the default comes first
        for tag in dict.fromkeys(tags):
            config = get_pretrained_cfg(f"{architecture}.{tag}") if tag else default
            table.add(architecture, tag, _timm_row(config.to_dict(), architecture))
    for old, new in get_deprecated_models().items():
        architecture, _, tag = new.partition(".")
        if not tag or tag in table.weights.get(architecture, ()):  # some lead to tags that are not there any more
            table.aliases[old] = new
    return table


def _timm_row(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """What a config of timm means, at its own size and at the one for tests."""
    row: dict[str, Any] = {"settings": _plain(timm.settings(config, architecture))}
    others = [_listed(one) for one in timm.at_sizes(config, architecture)]
    return row | ({"at_sizes": others} if others else {})


def torchvision_table() -> Table:
    """The table of torchvision: every weight of every model, quantised ones too."""
    import torchvision
    from torchvision import models

    table = Table("torchvision", torchvision.__version__.partition("+")[0])
    for architecture in models.list_models():
        weights = models.get_model_weights(architecture)
        table.aliases[weights.__name__] = architecture
        for one in sorted(weights, key=lambda each: each is not weights.DEFAULT):  # stable: the default comes first
            table.add(architecture, one.name, _torchvision_row(one.transforms()))
    return table


def _torchvision_row(transform: Any) -> dict[str, Any]:
    """What the transform of a weight of torchvision means.

    The classes are those of `torchvision/transforms/_presets.py`.
    """
    kind = type(transform).__name__
    if kind == "VideoClassification":
        return {"refused": "it takes clips of many frames, which are not supported"}
    if kind == "OpticalFlow":
        values = {"scale": "1/255", "mean": [0.5], "std": [0.5], "channels": "RGB", "resize": "stretch"}
        return {"settings": values, "remark": "torchvision gives it two whole pictures in their own size"}
    if kind == "ObjectDetection":
        values = {"scale": "1/255", "channels": "RGB", "resize": "stretch"}
        return {"settings": values, "remark": "torchvision gives it the whole picture in its own size"}
    settings: dict[str, Any] = {
        "scale": "1/255",
        "mean": transform.mean,
        "std": transform.std,
        "channels": "RGB",
        "interpolation": str(transform.interpolation.value),
        "antialias": transform.antialias,
    }
    (side,) = transform.resize_size
    if kind == "SemanticSegmentation":
        remark = f"torchvision scales the shorter side to {side} and cuts nothing off; the picture is stretched"
        return {"settings": {**settings, "size": [side, side], "resize": "stretch"}, "remark": remark}
    assert kind == "ImageClassification", kind
    (crop,) = transform.crop_size
    return {"settings": {**settings, "size": [crop, crop], "resize": "crop", "crop_fraction": f"{crop}/{side}"}}


def keras_table() -> Table:
    """The table of Keras: the input size of every application, and what its `preprocess_input` does to pixels."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    table = Table("keras", keras.__version__)
    for name, model in inspect.getmembers(keras.applications, inspect.isfunction):
        size = _default_size(model)
        values = _values(sys.modules[model.__module__].preprocess_input)
        geometry = {"resize": "stretch", "interpolation": "nearest"} | ({"size": [size, size]} if size else {})
        table.add(name, "", {"settings": geometry | values})
    return table


class _SizeAskedError(Exception):
    """The default size of an application, which was asked for on the way to building it."""


def _default_size(model: Callable[..., Any]) -> int | None:
    """The height and width of the input of a Keras application that is built without arguments; None for any."""
    from keras.src.applications import imagenet_utils

    def stop(input_shape: Any, default_size: int, **others: Any) -> None:
        raise _SizeAskedError(default_size)

    original, imagenet_utils.obtain_input_shape = imagenet_utils.obtain_input_shape, stop
    try:
        built = model(weights=None)  # MobileNetV3 does not ask, and is built
    except _SizeAskedError as asked:
        return int(asked.args[0])
    finally:
        imagenet_utils.obtain_input_shape = original
    height, width = built.input_shape[1:3]
    assert height == width, f"{model.__name__} has an input of {height}x{width}"
    return height


def _values(preprocess_input: Callable[[Any], Any]) -> dict[str, Any]:
    """What a `preprocess_input` does to pixels, found by trying it against the three modes of Keras and none.

    The modes are those of `keras/src/applications/imagenet_utils.py`: "tf", "torch" and "caffe".
    """
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    found = np.asarray(preprocess_input(pixels.copy()), np.float64)
    modes: list[dict[str, Any]] = [
        {},
        {"scale": "1/127.5", "mean": [1.0]},
        {"scale": "1/255", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"mean": [103.939, 116.779, 123.68], "channels": "BGR"},
    ]
    for mode in modes:
        meant = Preprocess.from_dict(mode)
        ordered = pixels[..., ::-1] if meant.channels == "BGR" else pixels
        if np.allclose(found, (ordered.astype(np.float64) * meant.scale - meant.mean) / meant.std, atol=1e-4):
            return {"scale": "1", "channels": "RGB", **mode}
    raise AssertionError(f"{preprocess_input.__module__} does something new to pixels")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them, without those that have their defaults anyway, but for the one of each group."""
    plain = _listed(settings)
    return plain | {"scale": "1/255" if plain["scale"] == 1 / 255 else plain["scale"]}


def _listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with lists in place of tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def likelihood_text() -> str:
    """The JSON of how many published classification weights of each input size the assumption fits, and in what."""
    sources, counts = [], defaultdict(lambda: [0] * len(likelihood.COLUMNS))
    for library, each in (("timm", _timm_classifiers()), ("torchvision", _torchvision_classifiers())):
        sources.append(f"{library} {named.table(library).version}")
        for preprocess in each:
            assert preprocess.size is not None
            right = likelihood.agreement(preprocess, _PHOTOS)
            row = counts["x".join(map(str, preprocess.size))]
            for column, one in enumerate((True, all(right), *right)):
                row[column] += one
    rows = ",\n".join(f"  {json.dumps(size)}: {json.dumps(row)}" for size, row in sorted(counts.items()))
    head = f'"sources": {json.dumps(sources)},\n"columns": {json.dumps(likelihood.COLUMNS)}'
    return f'{{{head},\n"sizes": {{\n{rows}\n}}\n}}\n'


def _timm_classifiers() -> Iterator[Preprocess]:
    """The preprocessing of every published weight of timm that has classes."""
    from timm.models import get_pretrained_cfg, list_pretrained

    for name in list_pretrained():
        config = get_pretrained_cfg(name)
        if config.num_classes:
            yield Preprocess(**timm.settings(config.to_dict(), name))


def _torchvision_classifiers() -> Iterator[Preprocess]:
    """The preprocessing of every weight of torchvision's classifiers, without the quantised copies."""
    from torchvision import models

    for architecture in models.list_models(module=models):
        for weight in models.get_model_weights(architecture):
            transform = weight.transforms()
            if type(transform).__name__ == "ImageClassification":
                yield Preprocess.from_dict(_torchvision_row(transform)["settings"])


MAKERS: Mapping[str, Callable[[], Table]] = {
    "timm": timm_table,
    "torchvision": torchvision_table,
    "keras": keras_table,
}
"""What makes the table of each library."""


def files() -> Iterator[tuple[Path, str]]:
    """Yield each table with its content; the likelihood is counted in the tables that were written before."""
    for library, make in MAKERS.items():
        yield FOLDER / f"{library}.json", make().text()
        named.table.cache_clear()
    yield FOLDER / "likelihood.json", likelihood_text()


def main() -> int:
    """Write the tables, or only compare them."""
    return write_or_check(command_line.parser("tools.release.named_presets", __doc__), files)


if __name__ == "__main__":
    sys.exit(main())
