"""What the Explainer hands back: classes, scores, maps, and pictures of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.methods import DEFAULT_METHOD, find_method
from onnx_xcam.cams.status import fused_status, status_words
from onnx_xcam.common import arguments
from onnx_xcam.errors import InputError, OutputError, XcamError
from onnx_xcam.explainer.layer_names import layer_index
from onnx_xcam.explainer.notebook import notebook_html
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.draw import DEFAULT_COLOUR_MAP, DEFAULT_DIVERGING, dimmed, overlay, side_by_side
from onnx_xcam.images.place import without_peaks
from onnx_xcam.images.write import encode_image, write_image
from onnx_xcam.labels import label_of
from onnx_xcam.text import printable

DEFAULT_ALPHA = 0.75
FUSED_LAYER = "fused"
"""What stands for a layer's name where the maps of all layers were made one."""


class Explanation:
    """Maps of N images, K classes each.

    Attributes:
        classes: int64 [N,K]: the classes explained, -1 and the like resolved.
        scores: float32 [N,K]: their scores, before any softmax.
        probabilities: float32 [N,K], or None if the model tells none: see docs/inputs-and-scores.md.
        labels: N lists of K labels (None for a class without one), or None if no labels are known.
        layers: names of the target layers' tensors.
        names: for each layer what else it is called: as it was asked for, its node, its module path.
        method: the CAM method.
        methods: all by which the images were explained in the same run, this one first; `by` has their explanations.
        by_others: the explanations by the others of these methods.
        signed: whether the maps show what speaks against a class too, as negative values.
        fused: float32 [N,K,h,w]: the maps of all layers as one, within -1..1; None unless that was asked for.
        is_number: whether the score is one number, an age or a distance: class 1 is what raises it, class 0 what
            lowers it, and their scores are it and its negative.
        pictures: the N images.
        notes: what was assumed on the way (layer, score, preprocessing, provider, labels).
    """

    def __init__(
        self,
        *,
        classes: NDArray[np.int64],
        scores: NDArray[np.float32],
        probabilities: NDArray[np.float32] | None,
        maps: Sequence[NDArray[np.float32]],
        status: Sequence[NDArray[np.int64]],
        labels: Sequence[str] | None,
        layers: Sequence[str],
        pictures: Sequence[Picture],
        notes: Sequence[str],
        method: str = DEFAULT_METHOD,
        signed: bool = False,
        is_number: bool = False,
        fused: NDArray[np.float32] | None = None,
        names: Sequence[Sequence[str]] = (),
        more_warnings: Sequence[str] = (),
    ) -> None:
        self.classes = classes
        self.scores = scores
        self.probabilities = probabilities
        self.layers = tuple(layers)
        self.method = method
        self.signed = signed
        self.is_number = is_number
        self.fused = fused
        self.names = tuple(map(tuple, names))
        self.pictures = tuple(pictures)
        self.notes = tuple(notes)
        self.labels = None if labels is None else [[label_of(i, labels) for i in row] for row in classes.tolist()]
        self._more_warnings = tuple(more_warnings)
        self.by_others: tuple[Explanation, ...] = ()
        self._maps = tuple(maps)
        self._status = tuple(status)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods by which the images were explained in the same run, that of these maps first."""
        return (self.method, *(one.method for one in self.by_others))

    def by(self, method: str) -> Explanation:
        """The explanation of the same images by one of `methods`.

        Raises:
            XcamError: they were not explained by this method.
        """
        wanted = find_method(method).name
        for one in (self, *self.by_others):
            if one.method == wanted:
                return one
        raise XcamError(f"The images were explained by {', '.join(self.methods)}, and not by {wanted}.")

    @property
    def maps(self) -> NDArray[np.float32]:
        """float32 [N,K,h,w]: the raw maps of the first layer, after the ReLU, neither resized nor scaled."""
        return self._maps[0]

    @property
    def status(self) -> NDArray[np.int64]:
        """int64 [N,K], for the first layer: 0 good, else a key of `contract.STATUS_TEXT`."""
        return self._status[0]

    @property
    def is_guided(self) -> bool:
        """Whether the maps have the input's resolution, and are fine and scattered."""
        return find_method(self.method).is_guided

    @property
    def images(self) -> list[NDArray[np.uint8] | None]:
        """The N photos, uint8 [H,W,3] RGB; None for ready tensors."""
        return [picture.image_rgb for picture in self.pictures]

    def maps_of(self, layer: int | str) -> NDArray[np.float32]:
        """float32 [N,K,h,w]: the raw maps of a layer, by its index or name; "fused" for those of all.

        Raises:
            LayerError: this explanation has no such layer.
        """
        if self.fused is not None and isinstance(layer, str) and layer == FUSED_LAYER:
            return self.fused
        return self._maps[self._layer_index(layer)]

    def status_of(self, layer: int | str) -> NDArray[np.int64]:
        """int64 [N,K]: the status of a layer, by its index or name; for "fused", of the map of all.

        Raises:
            LayerError: this explanation has no such layer.
        """
        if self.fused is not None and isinstance(layer, str) and layer == FUSED_LAYER:
            return fused_status(self.fused, self._status)
        return self._status[self._layer_index(layer)]

    def heatmap(self, n: int = 0, k: int = 0, *, layer: int | str | None = None) -> NDArray[np.float32]:
        """float32 [H,W]: the map laid over the photo at its own size; 0 where the model saw nothing of it.

        Scaled from its minimum to its maximum, 0..1; a signed one by its largest magnitude, -1..1. A guided one is cut
        off at its 99th percentile first. For a ready tensor, H and W are those of the model's input.

        Args:
            n: image.
            k: index into this image's classes.
            layer: index, name or "fused"; None is "fused" where layers are fused, else the first.

        Raises:
            LayerError: this explanation has no such layer.
            InputError: nor such an image or class.
        """
        n, k = self._place(n, k)
        maps = self.maps_of(self._shown(layer))[n, k]
        maps = without_peaks(maps) if self.is_guided else maps
        placement = self.pictures[n].placement
        with memory_for(self.pictures[n].name):
            return placement.signed_heatmap(maps) if self.signed else placement.heatmap(maps)

    def overlay(
        self,
        n: int = 0,
        k: int = 0,
        *,
        alpha: float = DEFAULT_ALPHA,
        colour_map: str | None = None,
        beside: bool = False,
        layer: int | str | None = None,
    ) -> NDArray[np.uint8]:
        """uint8 [H,W,3] RGB: the heat map over the photo, or [H,about 2W,3] with the photo beside it.

        Behind a guided map the photo is dark grey.

        Args:
            n: image.
            k: index into this image's classes.
            alpha: opacity of the hottest pixels, 0..1.
            colour_map: one of `onnx_xcam.images.draw.COLOUR_MAPS`, of `DIVERGING` for signed maps; None is inferno, or
                blue (speaks against the class) and red.
            beside: put the untouched photo to the left.
            layer: as for `heatmap`.

        Raises:
            InputError: there is no photo, only a ready tensor.
            LayerError: this explanation has no such layer.
            ImageError: the memory ran out.
        """
        n, k = self._place(n, k)
        alpha, beside = arguments.share("alpha", alpha), arguments.flag("beside", beside)
        picture = self.pictures[n]
        if picture.image_rgb is None:
            raise InputError(
                "There is no photo to draw on: explain() was given a ready tensor. Pass photos, or use heatmap()."
            )
        heat = self.heatmap(n, k, layer=layer)
        default = DEFAULT_DIVERGING if self.signed else DEFAULT_COLOUR_MAP
        seen = None if picture.placement.sees_all else picture.placement.seen()
        with memory_for(picture.name):
            drawn = overlay(
                dimmed(picture.image_rgb) if self.is_guided else picture.image_rgb,
                heat,
                alpha=alpha,
                colour_map=default if colour_map is None else arguments.text("colour_map", colour_map),
                seen=seen,
                signed=self.signed,
            )
            return side_by_side(picture.image_rgb, drawn) if beside else drawn

    def save(
        self,
        path: str | Path,
        n: int = 0,
        k: int = 0,
        *,
        alpha: float = DEFAULT_ALPHA,
        colour_map: str | None = None,
        beside: bool = False,
        layer: int | str | None = None,
    ) -> Path:
        """Write the overlay to a picture file; the ending (.png, .jpg, ...) tells the format. Arguments as `overlay`.

        Raises:
            OutputError: the file cannot be written.
            and what `overlay` raises.
        """
        path = arguments.path("path", path, OutputError)
        write_image(path, self.overlay(n, k, alpha=alpha, colour_map=colour_map, beside=beside, layer=layer))
        return path

    def caption(self, n: int = 0, k: int = 0) -> str:
        """One line on a class of an image: `class 285 "Egyptian cat"  score 9.31  p 0.62`.

        Of a number: `up (class 1)  value 49.54`, or `down (class 0)  value -0.30`.
        """
        n, k = self._place(n, k)
        if self.is_number and self.labels:
            return f"{self.labels[n][k]} (class {self.classes[n, k]})  value {self.value(n, k):.2f}"
        label = self.labels[n][k] if self.labels else None
        named = f' "{label}"' if label else ""
        p = "" if self.probabilities is None else f"  p {self.probabilities[n, k]:.2f}"
        named = printable(named)
        return f"class {self.classes[n, k]}{named}  score {self.scores[n, k]:.2f}{p}"

    def value(self, n: int = 0, k: int = 0) -> float:
        """What the caption tells: the score, or of a number that goes down what it is."""
        score = float(self.scores[n, k])
        return -score if self.is_number and self.classes[n, k] == 0 else score

    def warnings(self) -> list[str]:
        """What is to be known of how the pictures were read, and what `map_warnings` tells."""
        of_files = [f"{one.name}: {remark}." for one in self.pictures for remark in one.remarks]
        return [*map(printable, dict.fromkeys(of_files)), *self.map_warnings()]

    def map_warnings(self) -> list[str]:
        """One sentence for each map that is not good: it is blank, or holds values that are not finite.

        Before these, what was found out about the model while it ran, once. What holds by several methods is said once.
        """
        by_others = (warning for one in self.by_others for warning in one.map_warnings())
        return list(dict.fromkeys([*self._more_warnings, *self._of_status(), *by_others]))

    def _of_status(self) -> list[str]:
        found = []
        for layer, status in zip(self.layers, self._status, strict=True):
            for n, k in np.argwhere(status != contract.GOOD).tolist():
                reason = status_words(int(status[n, k]))
                label = self.labels[n][k] if self.labels else None
                named = f" ({label})" if label else ""
                where = f"{self.pictures[n].name}, class {self.classes[n, k]}{named}, layer {layer!r}"
                found.append(printable(f"{where}: {reason}."))
        return found

    @property
    def shown_layers(self) -> list[int | str]:
        """What is drawn: the maps of all layers as one where they are fused, else those of each."""
        return [FUSED_LAYER] if self.fused is not None else [*range(len(self.layers))]

    def _place(self, n: int, k: int) -> tuple[int, int]:
        """The place of an image and of one of its classes.

        Raises:
            InputError: there is none.
        """
        images, classes = self.classes.shape
        return arguments.index("n", n, images, InputError), arguments.index("k", k, classes, InputError)

    def _shown(self, layer: int | str | None) -> int | str:
        if layer is not None:
            return layer
        return 0 if self.fused is None else FUSED_LAYER

    def _layer_index(self, layer: int | str) -> int:
        return layer_index(layer, self.layers, self.names, "This explanation")

    def _repr_png_(self) -> bytes | None:
        """The first overlay, for notebooks."""
        return None if self.pictures[0].image_rgb is None else _png(self.overlay())

    def _repr_html_(self) -> str:
        """Every map over its photo, for notebooks."""
        return notebook_html(self)

    def __repr__(self) -> str:
        n, k = self.classes.shape
        return f"<Explanation of {n} image(s), {k} class(es) each, layer {self.layers[0]!r}: {self.caption()}>"


def _png(image_rgb: NDArray[np.uint8]) -> bytes:
    """The picture, uint8 [H,W,3] RGB, as a PNG file."""
    return encode_image(image_rgb, ".png")
