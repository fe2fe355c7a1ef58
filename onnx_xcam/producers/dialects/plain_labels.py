"""This module reads files beside a model that hold nothing but its labels, by the names that are usual for them.

Such files are written by many tools and by hand: ImageNet's lists, `synset.txt` of Caffe and MXNet,
`index_to_name.json` of TorchServe, `class_indices.json` of Keras' generators, `dict.txt` of Google's AutoML,
`label_map.pbtxt` of TensorFlow's object detection. `onnx_xcam.labels` says which forms are read.
"""

from __future__ import annotations

from onnx_xcam.errors import LabelsError
from onnx_xcam.labels import read_labels
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import Statement

_TEXTS = (
    *("{stem}_labels", "labels", "classes", "class_names", "class_labels", "label_names", "categories"),
    *("imagenet_classes", "imagenet_labels", "imagenet1000_clsidx_to_labels", "ImageNetLabels"),
    *("synset", "synset_words", "imagenet_synsets", "labelmap", "label_map", "label_list", "dict"),
)
_DATA = (
    *("{stem}_labels", "labels", "classes", "class_names", "class_labels", "label_names", "label_map", "labelmap"),
    *("class_indices", "class_index", "index_to_name", "idx_to_class", "class_to_idx", "id2label", "label2id"),
    *("imagenet_class_index", "imagenet-simple-labels", "categories"),
)
_TABLES = ("labels", "classes", "class_names", "label_map", "{stem}_labels")
FILES = (
    *(f"{name}.txt" for name in _TEXTS),
    *(f"{name}.json" for name in _DATA),
    *(f"{name}.{suffix}" for suffix in ("yaml", "yml") for name in ("labels", "classes")),
    *(f"{name}.csv" for name in _TABLES),
    *("label_map.pbtxt", "labelmap.pbtxt", "labels.pbtxt", "{stem}.names", "obj.names", "classes.names"),
)
"""The names of files with labels, the most telling first."""
_NAMES = frozenset(FILES)
_SUFFIXES = tuple(name.removeprefix("{stem}") for name in FILES if name.startswith("{stem}"))


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file has the name of a file of labels."""
    return is_named(file.path.name)


def is_named(name: str) -> bool:
    """Tell whether a name is that of a file of labels."""
    return name in _NAMES or name.endswith(_SUFFIXES)


def read(file: DescriptionFile) -> Statement:
    """Return the labels in a file; one that only has the name of such a file is passed over with a remark."""
    try:
        labels = read_labels(file.text, file.path.suffix, file.data, file.source)
    except LabelsError as error:
        return Statement.of(file.source, label_remarks=(f"{str(error).rstrip('.')}; it is passed over.",))
    return Statement.of(file.source, labels=labels)


DIALECT = Dialect("plain label files", FILES, recognises, read)
