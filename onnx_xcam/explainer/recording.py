"""A Recording holds what one image's run gave at the layers of a model, and makes the maps of methods from it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.ablation import ScoreDecomposition
from onnx_xcam.cams import gradient_free
from onnx_xcam.cams.contributions import Contributions, map_of, shares_of
from onnx_xcam.cams.fusion import Fusion, check_fusion, fused
from onnx_xcam.cams.layout import lined_up
from onnx_xcam.cams.methods import Method, find_method
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.status import map_status
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.layer_names import layer_index
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.places import boxes_in_photos

T = TypeVar("T", bound=np.generic)

_XP = NumpyArrays()


def _cut_out(maps: NDArray[np.floating], window: contract.Window | None) -> NDArray[Any]:
    """Return maps `[1,K,h,w]` that cover a window of the input cut to the input itself."""
    return maps if window is None else _XP.windowed(maps, window)


@dataclass(frozen=True)
class LayerRecord:
    """A LayerRecord is one layer's part of a recording, of one image and K classes.

    Attributes:
        name: the name of the layer's tensor.
        layout, grid: what the layer's axes mean, and how its tokens lie in a grid if it has tokens.
        activations: float32 `[1,...]` in the layer's layout, images first.
        gradients: float32 `[1,K,...]`, or None if they were not requested.
        scores: float32 [K].
        guided: Guided XGrad-CAM's map before the ReLU, `[1,K,H,W]`, or None if it was not requested.
        ablate: returns the scores without each channel, float32 [K,C]; None if ablations were not requested.
        split: returns the score decomposition behind the layer; None if ablations were not requested.
        mask: returns the scores of the input masked by each channel of `[C,h,w]`, float32 [K,C].
        input_size: height and width of the model's input.
        names: the layer's names beside that of its tensor.
        window: for the only layer of a cut, which part of the input it covers; None for all of it.
    """

    name: str
    layout: contract.Layout
    grid: contract.Grid | None
    activations: NDArray[np.float32]
    gradients: NDArray[np.float32] | None
    scores: NDArray[np.float32]
    guided: NDArray[np.float32] | None
    ablate: Callable[[], NDArray[np.float32]] | None
    split: Callable[[], ScoreDecomposition] | None
    mask: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    input_size: tuple[int, int]
    names: tuple[str, ...] = ()
    window: contract.Window | None = None

    @functools.cached_property
    def A(self) -> NDArray[np.float32]:  # noqa: N802  - the paper's name
        """Return the activations as `[C,S]`, where S = h w."""
        return np.asarray(self._lined[0][0])

    @functools.cached_property
    def G(self) -> NDArray[np.float32]:  # noqa: N802
        """Return the gradients as `[K,C,S]`, where S = h w.

        Raises:
            XcamError: gradients were not requested.
        """
        if self.gradients is None:
            raise XcamError("The recording holds no gradients; open the Recorder for a method that needs them.")
        return np.asarray(self._lined[1][0])

    @functools.cached_property
    def is_flat(self) -> NDArray[np.bool_] | None:
        """Tell for each class whether its gradient is zero everywhere, bool [K]; None without gradients."""
        return None if self.gradients is None else np.logical_not(self.G.any((1, 2)))

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Return height and width of the layer.

        Raises:
            ModelError: the number of tokens fits no grid of the input's proportions.
        """
        if self.grid is None:
            at = contract.images_first(self.layout).find("H")
            return self.activations.shape[at], self.activations.shape[at + 1]
        if self.grid.height is not None and self.grid.width is not None:
            return self.grid.height, self.grid.width
        count, (height, width) = self.A.shape[1], self.input_size
        rows = round((count * height / width) ** 0.5)
        if rows < 1 or count % rows:
            raise ModelError(f"Layer '{self.name}' has {count} tokens, which are no grid of a picture's proportions.")
        return rows, count // rows

    @functools.cached_property
    def ablated(self) -> NDArray[np.float32]:
        """Return the scores without each channel, float32 [K,C].

        Raises:
            XcamError: ablations were not requested, or the part behind the layer cannot be run.
        """
        if self.ablate is None:
            raise XcamError("The recording was not made for ablations; open the Recorder with ablations.")
        return self.ablate()

    @functools.cached_property
    def balance(self) -> ScoreDecomposition:
        """Return the score decomposition behind the layer: the part of the layer, of biases, and of bypasses.

        Raises:
            UnsupportedOpError: the model is quantised, or an operator has no gradient rule.
            XcamError: as `ablated`.
        """
        if self.split is None:
            raise XcamError("The recording was not made for ablations; open the Recorder with ablations.")
        return self.split()

    def raw(self, method: str) -> NDArray[np.float32]:
        """Return the map before the ReLU, float32 [K,h,w], or [K,H,W] for a guided method.

        Raises:
            XcamError: the method needs what was not recorded.
        """
        known = find_method(method)
        if known.is_guided:
            return _guided_map(self.guided)
        raw = map_of(_XP, self._contributions(known))[0]
        return np.asarray(_cut_out(np.reshape(raw, (1, -1, *self.size)), self.window)[0], np.float32)

    def shares(self, method: str) -> NDArray[np.float32]:
        """Return what each channel adds to the sum of the map before the ReLU, float32 [K,C].

        Raises:
            XcamError: the method needs what was not recorded, or is a guided one, whose map has no channels.
        """
        known = find_method(method)
        if known.is_guided:
            raise XcamError(f"{known.title} has no shares: its map is one of the input, not a sum over a layer.")
        return np.asarray(shares_of(_XP, self._contributions(known))[0], np.float32)

    @functools.cached_property
    def _lined(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return activations and gradients as `[1,C,S]` and `[1,K,C,S]`; activations stand in for missing gradients."""
        gradients = self.activations[:, None] if self.gradients is None else self.gradients
        return lined_up(self.activations, gradients, self.layout, self.grid)

    @functools.cached_property
    def _slopes(self) -> NDArray[np.float32]:
        """Return G for the formulas: `[K,C,S]`, or `[K,C,1]` if it is constant over space, as in the emitted graph."""
        first = self.G[..., :1]
        return first if (first == self.G).all() else self.G

    @functools.cached_property
    def _masked(self) -> NDArray[np.float32]:
        """Return the scores of the input masked by each channel, float32 [K,C]."""
        return self.mask(self.A.reshape(-1, *self.size))

    def _contributions(self, method: Method) -> Contributions:
        """Return what each channel contributes to the map of a method."""
        a = self.A[None]
        if method.formula is not None:
            return method.formula(_XP, a, self._slopes[None], non_negative=bool((a >= 0).all()))
        if method.needs == "activations":
            return gradient_free.eigen_cam(a, len(self.scores))
        if method.needs == "ablations":
            return gradient_free.ablation_cam(a, self.scores[None], self.ablated[None])
        return gradient_free.score_cam(a, self._masked[None])


@dataclass(frozen=True)
class CutRecord:
    """A CutRecord is a cut's part of a recording: of layers that carry all evidence together, of one image and K cells.

    Its map is the sum of its members' maps on the grid of the finest of them.

    Attributes:
        name: the name of the cut.
        members: the records of its layers.
        names: the names of its layers.
        guided: Guided XGrad-CAM's map before the ReLU, `[1,K,H,W]`, or None if it was not requested.
        window: which part of the input the layers cover; None for all of it.
    """

    name: str
    members: Sequence[LayerRecord]
    names: tuple[str, ...] = ()
    guided: NDArray[np.float32] | None = None
    window: contract.Window | None = None

    @functools.cached_property
    def is_flat(self) -> NDArray[np.bool_] | None:
        """Tell for each cell whether its gradient is zero in all layers, bool [K]; None without gradients."""
        flat = [one for member in self.members if (one := member.is_flat) is not None]
        return functools.reduce(np.logical_and, flat) if flat else None

    @property
    def scores(self) -> NDArray[np.float32]:
        """Return the scores, float32 [K]."""
        return self.members[0].scores

    @functools.cached_property
    def ablated(self) -> NDArray[np.float32]:
        """Return the scores without each channel of all layers, one layer after the other, float32 [K,C].

        While a channel of one layer is left out, the other layers stay as they are.

        Raises:
            XcamError: as `LayerRecord.ablated`.
        """
        return np.concatenate([member.ablated for member in self.members], axis=1)

    @functools.cached_property
    def size(self) -> tuple[int, int]:
        """Return height and width of the finest layer."""
        return max((member.size for member in self.members), key=math.prod)

    def raw(self, method: str) -> NDArray[np.float32]:
        """Return the map before the ReLU, float32 [K,h,w], or [K,H,W] for a guided method.

        Raises:
            XcamError: the method needs what was not recorded.
        """
        if find_method(method).is_guided:
            return _guided_map(self.guided)
        maps = [member.raw(method)[None] for member in self.members]
        finest = max((one.shape[2:] for one in maps), key=math.prod)
        total = functools.reduce(np.add, (_XP.resize_linear(one, finest) for one in maps))
        return np.asarray(_cut_out(total, self.window)[0], np.float32)

    def shares(self, method: str) -> NDArray[np.float32]:
        """Return what each channel of all layers, one layer after the other, adds to the score, float32 [K,C].

        Raises:
            XcamError: as `LayerRecord.shares`.
        """
        return np.concatenate([member.shares(method) for member in self.members], axis=1)


@dataclass(frozen=True)
class Recording:
    """A Recording holds the results of one image's run for K classes, at all layers.

    Attributes:
        cells: what was explained, resolved: the very cells, int64 [1,K].
        classes: int64 [K].
        scores: float32 [K], before any softmax.
        probabilities: float32 [K], or None if the model gives none.
        layers: a record for each map: of a layer, or of a cut.
        picture: the image.
        labels: the C class labels, or None.
        notes: what was assumed for the run.
        is_number, task: as of an `Explanation`.
        objects: int64 [K], or None for a model without objects.
        boxes: float32 [K,4] in pixels of the model's input, or None.
    """

    cells: Cells
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    probabilities: NDArray[np.float32] | None
    layers: Sequence[LayerRecord | CutRecord]
    picture: Picture
    labels: Sequence[str] | None
    notes: Sequence[str]
    is_number: bool = False
    task: str = "classification"
    objects: NDArray[np.int64] | None = None
    boxes: NDArray[np.float32] | None = None

    def layer(self, layer: int | str) -> LayerRecord | CutRecord:
        """Return the record of a map, by its index or the name of a layer; that of the cut for any of its layers.

        Raises:
            LayerError: there is no such layer.
        """
        layers = [record.name for record in self.layers]
        return self.layers[layer_index(layer, layers, [record.names for record in self.layers], "The recording")]

    def map(self, method: str, layer: int | str = 0) -> NDArray[np.float32]:
        """Return the map of a layer before the ReLU, float32 [K,h,w], or [K,H,W] for a guided method.

        Raises:
            XcamError: the method needs what was not recorded, or there is no such layer.
        """
        return self.layer(layer).raw(method)

    def shares(self, method: str, layer: int | str = 0) -> NDArray[np.float32]:
        """Return what each channel of a layer adds to the sum of the map before the ReLU, float32 [K,C].

        Raises:
            XcamError: as `map`, or the method is a guided one, whose map has no channels.
        """
        return self.layer(layer).shares(method)

    def explanation(self, method: str, *, relu: bool = True, fuse: Fusion | None = None) -> Explanation:
        """Return the maps of a method as an Explanation of this one image.

        Args:
            method: the method's name.
            relu: whether to leave out what speaks against the class.
            fuse: how to fuse the maps of all layers into one more map; None for no such map.

        Raises:
            XcamError: as `map`, or the layers cannot be fused in this way.
        """
        check_fusion(fuse, layers=len(self.layers), relu=relu)
        raw = [layer.raw(method) for layer in self.layers]
        finite = [np.isfinite(one).all((1, 2)) & np.isfinite(self.scores) for one in raw]
        maps = [np.where(good[:, None, None], one, 0) for good, one in zip(finite, raw, strict=True)]
        maps = [np.maximum(one, 0) for one in maps] if relu else maps
        status = [
            map_status(one, finite=good, flat=layer.is_flat)
            for one, good, layer in zip(maps, finite, self.layers, strict=True)
        ]
        if self.objects is not None:
            status = [np.where(self.objects >= 0, one, contract.NO_OBJECT) for one in status]
        against = self.cells.against
        return Explanation(
            classes=self.classes[None],
            scores=self.scores[None],
            probabilities=None if self.probabilities is None else self.probabilities[None],
            maps=[one[None].astype(np.float32) for one in maps],
            status=[one[None] for one in status],
            labels=self.labels,
            layers=[layer.name for layer in self.layers],
            names=[layer.names for layer in self.layers],
            pictures=[self.picture],
            notes=self.notes,
            method=find_method(method).name,
            signed=not relu,
            is_number=self.is_number,
            fused=None if fuse is None else self._fused([one[None] for one in maps], fuse),
            task=self.task,
            objects=_of_one(self.objects),
            boxes=boxes_in_photos(_of_one(self.boxes), _of_one(self.objects), [self.picture]),
            against=against,
        )

    @staticmethod
    def _fused(maps: Sequence[NDArray[np.float32]], how: Fusion) -> NDArray[np.float32]:
        """Return the fused map of all layers, float32 [1,K,h,w], on the finest of their grids."""
        finest = max((one.shape[2:] for one in maps), key=math.prod)
        return np.asarray(fused(_XP, maps, finest, how), np.float32)


def _guided_map(guided: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return the guided map of one image, float32 [K,H,W], or raise an XcamError if there is none."""
    if guided is None:
        raise XcamError("The recording holds no guided gradients; open the Recorder for the method.")
    return np.asarray(guided[0])


def _of_one(values: NDArray[T] | None) -> NDArray[T] | None:
    """Return the values of one image with an axis of images, or None."""
    return None if values is None else values[None]
