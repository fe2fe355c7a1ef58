"""This module checks the metadata of an instrumented file against the file's own tensors and outputs.

The metadata come from whoever wrote the file, and maps, records and pages repeat them. So a file is refused when it is
opened if they contradict its tensors and outputs, or this version of the contract. Unknown fields are ignored, since
later versions of the same contract may add some.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

import onnx

from onnx_xcam import contract
from onnx_xcam.cams.fusion import check_fusion
from onnx_xcam.cams.methods import emitted_method
from onnx_xcam.common.arguments import short_repr
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.explainer.probabilities import stated_source
from onnx_xcam.metadata import Metadata, Misstated
from onnx_xcam.runtime import TensorInfo

_MOST_NOTES, _LONGEST_NOTES = 1000, 100_000


def check_metadata(metadata: Metadata, graph: onnx.GraphProto, outputs: Sequence[TensorInfo], name: str) -> None:
    """Make sure that the metadata of an instrumented file agree with the file.

    Args:
        metadata: the file's metadata.
        graph: the file's graph, without the weights.
        outputs: the outputs that the session lists.
        name: the file's name in messages.

    Raises:
        ModelError: the metadata contradict the file or the contract.
    """
    _MetadataCheck(metadata, graph, outputs, name).check()


class _MetadataCheck:
    """A _MetadataCheck compares the metadata of one file with its graph and outputs, field by field."""

    def __init__(self, metadata: Metadata, graph: onnx.GraphProto, outputs: Sequence[TensorInfo], name: str) -> None:
        self.metadata, self.graph, self.name = metadata, graph, name
        self.outputs = {output.name: output for output in outputs}

    def check(self) -> None:
        """Check all fields, or raise a ModelError."""
        self._version()
        self._layers()
        self._method()
        self._score()
        self._task()
        self._probabilities("probabilities", self.metadata.probabilities)
        self._probabilities("logits", self.metadata.logits)
        notes = self.metadata.notes
        if len(notes) > _MOST_NOTES or sum(map(len, notes)) > _LONGEST_NOTES:
            self._refuse("hold more notes than anybody reads")
        activation = self.metadata.activation
        if activation is not None and not re.fullmatch(r"\w{1,60}", activation):
            self._refuse(f"name the activation {short_repr(activation)}, which is none")

    def _version(self) -> None:
        """Check that the file is of this version of the contract."""
        version = self.metadata.version
        if isinstance(version, int) and not isinstance(version, bool) and version > contract.VERSION:
            raise ModelError(
                f"{self.name} was instrumented by a later onnx_xcam (version {version} of its contract, where this one "
                f"knows {contract.VERSION}); update onnx-xcam, or instrument the original model again."
            )
        if version is True or version != contract.VERSION:
            self._refuse(f"name the version {short_repr(version)}, which is not {contract.VERSION}")

    def _layers(self) -> None:
        """Check that the layers are distinct tensors of the original model, each with a layout and a grid."""
        layers = self.metadata.layers
        maps = [output for output in self.outputs if re.fullmatch(r"xcam_(map|activations|gradients)(_\d+)?", output)]
        if len(layers) > max(1, len(maps)) and not self.metadata.cut:
            self._refuse(f"name {len(layers)} layers, more than there are maps")
        if len(set(layers)) < len(layers):
            self._refuse("name a layer twice")
        if self.metadata.cut and [member.layer for member in self.metadata.cut] != list(layers):
            self._refuse("name a cut of other layers than those that are explained")
        there, made = set(_tensors(self.graph)), set(_made(self.graph.node))
        for layer in layers:
            if layer not in there:
                self._refuse(f"name the layer {short_repr(layer)}, which the model does not have")
            if layer not in made or layer.startswith(contract.ADDED):
                self._refuse(f"name the layer {short_repr(layer)}, which no node of the original model makes")
        layouts, grids, unstated = self.metadata.layouts, self.metadata.grids, self.metadata.unstated
        if "layouts" not in unstated and len(layouts) != len(layers):
            self._refuse(f"state {len(layouts)} layouts for {len(layers)} layers")
        if "grids" not in unstated and len(grids) != len(layers):
            self._refuse(f"state {len(grids)} grids for {len(layers)} layers")
        for index, layout in enumerate(layouts):
            self._layout(index, layout, self.metadata.grid(index), known="grids" not in unstated)

    def _layout(self, index: int, layout: contract.Layout, grid: contract.Grid | None, *, known: bool) -> None:
        """Check that a layer's layout and token grid fit the shapes of its activations and map."""
        activations = self._shape(contract.output_name("activations", index))
        rank = len(activations) if activations else self._rank(self.metadata.layers[index])
        if rank not in (None, len(layout)):
            self._refuse(f"state the layout {layout} for a layer of {rank} axes")
        if known and (grid is None) == ("T" in layout):
            self._refuse(f"state the layout {layout} {'without' if grid is None else 'and'} a grid of tokens")
        if grid is None:
            return
        height, width, before, after = grid
        sizes = [one for one in (height, width) if one is not None]
        if any(one < 1 for one in sizes) or before is None or after is None or min(before, after) < 0:
            self._refuse(f"state a grid of tokens that cannot be, {list(grid)}")
        on_map = () if self.metadata.cut else self._shape(contract.output_name("map", index))
        guided = "guided" in self.metadata.method
        pairs = zip((height, width), on_map[2:], strict=False) if on_map and not guided else ()
        if any(isinstance(one, int) and isinstance(other, int) and one != other for one, other in pairs):
            self._refuse(f"state a grid of {height} x {width} tokens, which is not that of the map")
        axis = "NTC".find("T") if layout == "TNC" else layout.find("T")  # the images come first
        tokens = activations[axis] if activations and len(activations) == len(layout) else None
        if isinstance(tokens, int) and len(sizes) == 2 and math.prod(sizes) + before + after != tokens:
            self._refuse(
                f"state a grid of {height} x {width} tokens and {before + after} others, but there are {tokens}"
            )

    def _method(self) -> None:
        """Check that the method and the fusion exist, and that the fused output is there where layers are fused."""
        try:
            emitted_method(self.metadata.method)
            check_fusion(self.metadata.fuse, layers=None, relu=self.metadata.relu)
        except XcamError as error:
            self._refuse(f"contradict the methods that there are ({error})")
        if bool(self.metadata.fuse) != (contract.FUSED in self.outputs):
            self._refuse("do not fit its outputs: layers are fused, or not, by one and not by the other")

    def _score(self) -> None:
        """Check that the score is a tensor of the graph, with as many classes as the metadata state."""
        score, count = self.metadata.score, self.metadata.class_count
        if score not in set(_tensors(self.graph)):
            self._refuse(f"name the score {short_repr(score)}, which the model does not have")
        if count is None:
            return
        lengths = [length for length in self._shape(score)[1:] if length != 1]
        count_of_shape = lengths[0] if len(lengths) == 1 else None
        if count < 1 or (isinstance(count_of_shape, int) and count_of_shape != count):
            wrong = f", but {short_repr(score)} has {count_of_shape}" if count_of_shape else ""
            self._refuse(f"state {count} classes{wrong}")

    def _task(self) -> None:
        """Check that the task is known, and that the file has objects where the metadata speak of them, and only there.

        A file that states no task, or what its objects are chosen among, is one of another tool or an earlier version.
        """
        task, has_objects = self.metadata.task, contract.OBJECTS in self.outputs
        if task not in contract.TASKS:
            self._refuse(f"name the task {short_repr(task)}, which is none of {', '.join(contract.TASKS)}")
        if self.metadata.candidates is not None and not has_objects:
            self._refuse("state what objects are chosen among, but no output tells objects")
        if "task" not in self.metadata.unstated and has_objects == (task == "classification"):
            self._refuse(f"name the task {task}, but {'an output' if has_objects else 'no output'} tells objects")

    def _probabilities(self, field: str, stated: contract.Probabilities | Misstated | None) -> None:
        """Check that a field about probabilities or logits names an original output with a number for each class."""
        source = stated_source(field, stated, self.outputs)
        if source is None:
            return
        output = self.outputs[source.output]
        if not (0 < source.scale < 1e6 and abs(source.zero_point) <= 1e10):  # False for NaN too
            self._refuse(f"state the scale {source.scale} and the zero point {source.zero_point} of {field}")
        if output.name.startswith(contract.ADDED):
            self._refuse(f"take {field} from {short_repr(source.output)}, which is no output of the original model")
        lengths = [length for length in output.shape if isinstance(length, int) and length != 1]
        count = self.metadata.class_count
        if output.dtype is None or output.dtype.kind not in "fiu" or (count and lengths and lengths[-1] != count):
            if count == 2 and not [length for length in output.shape[1:] if length != 1]:
                return  # one logit, or its sigmoid, stands for two classes
            self._refuse(
                f"take {field} from {short_repr(source.output)}, which has no number for each of {count} classes"
            )

    def _shape(self, name: str) -> tuple[int | str | None, ...]:
        """Return the shape of an output, () if there is no such output."""
        return self.outputs[name].shape if name in self.outputs else ()

    def _rank(self, tensor: str) -> int | None:
        """Return the number of dimensions that the graph states for a tensor, or None if it states none."""
        for value in (*self.graph.value_info, *self.graph.output, *self.graph.input):
            if value.name == tensor and value.type.tensor_type.HasField("shape"):
                return len(value.type.tensor_type.shape.dim)
        return None

    def _refuse(self, what: str) -> NoReturn:
        """Raise the ModelError that says what is wrong with the metadata."""
        raise ModelError(
            f"{self.name} is not what its metadata {contract.METADATA_KEY!r} say: they {what}; instrument the original "
            "model again."
        )


def _tensors(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names of all tensors of a graph, those in the bodies of its nodes among them."""
    yield from (value.name for value in graph.input)
    yield from (tensor.name for tensor in graph.initializer)
    yield from _made(graph.node)


def _made(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield the names of the outputs of nodes, and of the nodes in their bodies."""
    for node in nodes:
        yield from node.output
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _made(body.node)
