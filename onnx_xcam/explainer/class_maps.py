"""This module holds the maps of one method with their classes and scores, and draws them over the photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.methods import DEFAULT_METHOD, find_method
from onnx_xcam.cams.status import fused_status
from onnx_xcam.common import arguments
from onnx_xcam.errors import InputError, OutputError
from onnx_xcam.explainer.described import at_box, labels_of, object_name
from onnx_xcam.explainer.layer_names import layer_index
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.boxes import DrawnBox, draw_boxes
from onnx_xcam.images.draw import DEFAULT_COLOUR_MAP, DEFAULT_DIVERGING, dimmed, overlay, side_by_side, united
from onnx_xcam.images.place import without_peaks
from onnx_xcam.images.write import write_image
from onnx_xcam.text import printable

DEFAULT_ALPHA = 0.75
_NO_PHOTO = "There is no photo to draw on: explain() was given a ready tensor. Pass photos, or use heatmap()."
FUSED_LAYER = "fused"
"""The name under which the map that fuses all layers is shown, in place of a layer's name."""


class ClassMaps:
    """A ClassMaps holds the maps of K classes of N images by one method, and draws them; see `Explanation`.

    Attributes:
        classes, scores, probabilities, labels, layers, names, method: as of an `Explanation`.
        signed, fused, is_number, pictures, notes, task, objects, boxes, against: as of an `Explanation`.
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
        run_warnings: Sequence[str] = (),
        task: str = "classification",
        objects: NDArray[np.int64] | None = None,
        boxes: NDArray[np.float32] | None = None,
        against: NDArray[np.int64] | None = None,
    ) -> None:
        """Hold the maps of one run.

        Args:
            classes: int64 [N,K].
            scores: float32 [N,K].
            probabilities: float32 [N,K], or None.
            maps: for each layer float32 [N,K,h,w], neither resized nor scaled.
            status: for each layer int64 [N,K], values of `contract.STATUS_TEXT` or `contract.GOOD`.
            labels: the labels of all C classes, or None.
            layers, pictures, notes, method, signed, is_number, fused, names: as of an `Explanation`.
            task, objects, boxes, against: as of an `Explanation`.
            run_warnings: warnings about the model that only the run could give.
        """
        self.classes = classes
        self.scores = scores
        self.probabilities = probabilities
        self.layers = tuple(layers)
        self.method = method
        self.signed = signed
        self.is_number = is_number
        self.fused = fused
        self.task = task
        self.objects = objects
        self.boxes = boxes
        self.against = against
        self.names = tuple(map(tuple, names))
        self.pictures = tuple(pictures)
        self.notes = tuple(notes)
        self.labels = labels_of(classes, labels)
        self.against_labels = None if against is None else labels_of(against, labels)
        self._run_warnings = tuple(run_warnings)
        self._maps = tuple(maps)
        self._status = tuple(status)

    @property
    def maps(self) -> NDArray[np.float32]:
        """Return the raw maps of the first layer, float32 [N,K,h,w], neither resized nor scaled.

        They are after the ReLU, unless they are signed.
        """
        return self._maps[0]

    @property
    def status(self) -> NDArray[np.int64]:
        """Return the status of the first layer's maps, int64 [N,K]: 0 is good, else a key of `contract.STATUS_TEXT`."""
        return self._status[0]

    @property
    def is_guided(self) -> bool:
        """Tell whether the method is a guided one, whose maps have the input's resolution and are fine-grained."""
        return find_method(self.method).is_guided

    @property
    def images(self) -> list[NDArray[np.uint8] | None]:
        """Return the N photos, uint8 [H,W,3] RGB, with None for each image that was given as a ready tensor."""
        return [picture.image_rgb for picture in self.pictures]

    def maps_of(self, layer: int | str) -> NDArray[np.float32]:
        """Return the raw maps of a layer, float32 [N,K,h,w], by its index or name; "fused" is the map of all layers.

        Raises:
            LayerError: this explanation has no such layer.
        """
        if self.fused is not None and isinstance(layer, str) and layer == FUSED_LAYER:
            return self.fused
        return self._maps[self._layer_index(layer)]

    def status_of(self, layer: int | str) -> NDArray[np.int64]:
        """Return the status of a layer's maps, int64 [N,K], by its index or name; "fused" is the map of all layers.

        Raises:
            LayerError: this explanation has no such layer.
        """
        if self.fused is not None and isinstance(layer, str) and layer == FUSED_LAYER:
            return fused_status(self.fused, self._status)
        return self._status[self._layer_index(layer)]

    def heatmap(self, n: int = 0, k: int = 0, *, layer: int | str | None = None) -> NDArray[np.float32]:
        """Return a map at the size of its photo and scaled for display, float32 [H,W].

        The values reach from 0 at the map's minimum to 1 at its maximum; a signed map is divided by its largest
        magnitude instead, to -1..1. A guided map is cut off at its 99th percentile first. Where preprocessing cropped
        the photo, what the model did not see is 0. For a ready tensor, H and W are those of the model's input.

        Args:
            n: the index of the image.
            k: the index into this image's classes.
            layer: the layer's index or name, or "fused"; None is "fused" where layers are fused, else the first layer.

        Raises:
            LayerError: this explanation has no such layer.
            InputError: there is no such image or class.
        """
        n, k = self._place(n, k)
        maps = self.maps_of(self._layer_to_draw(layer))[n, k]
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
        """Draw the heat map over the photo, and return the picture, uint8 [H,W,3] RGB.

        Behind a guided map the photo is dark grey.

        Args:
            n: the index of the image.
            k: the index into this image's classes.
            alpha: the opacity of the hottest pixels, 0..1.
            colour_map: one of `onnx_xcam.images.draw.COLOUR_MAPS`, of `DIVERGING` for signed maps; None is inferno, or
                blue (speaks against the class) and red for signed maps.
            beside: whether to put the untouched photo to the left, which makes the picture about 2W wide.
            layer: as for `heatmap`.

        Raises:
            InputError: the image was given as a ready tensor, which has no photo, or there is no such image or class.
            LayerError: this explanation has no such layer.
            ImageError: memory does not suffice for a picture of this size.
        """
        n, k = self._place(n, k)
        alpha, beside = arguments.share("alpha", alpha), arguments.flag("beside", beside)
        picture = self.pictures[n]
        if picture.image_rgb is None:
            raise InputError(_NO_PHOTO)
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
        k: int | None = 0,
        *,
        alpha: float = DEFAULT_ALPHA,
        colour_map: str | None = None,
        beside: bool = False,
        layer: int | str | None = None,
    ) -> Path:
        """Write the `picture`, which is the overlay and the boxes of objects, to a file, and return its path.

        Args:
            path: the file; its ending (.png, .jpg, ...) tells the format.
            n, k, alpha, colour_map, beside, layer: as for `picture`.

        Raises:
            OutputError: the file cannot be written.
            XcamError: as `overlay`.
        """
        path = arguments.path("path", path, OutputError)
        write_image(path, self.picture(n, k, alpha=alpha, colour_map=colour_map, beside=beside, layer=layer))
        return path

    def caption(self, n: int = 0, k: int = 0) -> str:
        """Return one line on a class of an image, such as `class 285 "Egyptian cat"  score 9.31  p 0.62`.

        Where the score is a number, the line is such as `up (class 1)  value 49.54` or `down (class 0)  value -0.30`.
        Of an object it is such as `face  p 0.83  at 40,60 180,300`, with its box in the photo, or `no object`.
        """
        n, k = self._place(n, k)
        if self.objects is not None:
            return self._object_caption(n, k)
        if self.is_number and self.labels:
            return f"{self.labels[n][k]} (class {self.classes[n, k]})  value {self.value(n, k):.2f}"
        label = self.labels[n][k] if self.labels else None
        named = f' "{label}"' if label else ""
        p = "" if self.probabilities is None else f"  p {self.probabilities[n, k]:.2f}"
        named = printable(named)
        return f"class {self.classes[n, k]}{named}{self._contrast(n, k)}  score {self.scores[n, k]:.2f}{p}"

    def is_object(self, n: int = 0, k: int = 0) -> bool:
        """Tell whether there is something to explain: False for an object that the photo does not have."""
        return self.objects is None or bool(self.objects[n, k] >= 0)

    def _object_caption(self, n: int, k: int) -> str:
        """Return the caption of an object."""
        if not self.is_object(n, k):
            return "no object"
        p = None if self.probabilities is None else float(self.probabilities[n, k])
        label = self.labels[n][k] if self.labels else None
        caption = object_name(int(self.classes[n, k]), label, self._contrast(n, k), p)
        if self.boxes is None:
            return f"{caption}  candidate {self.objects[n, k]}" if self.objects is not None else caption
        placement = self.pictures[n].placement
        return f"{caption}  at {at_box(placement.within_photo(self.boxes[n, k]))}"

    def _contrast(self, n: int, k: int) -> str:
        """Return the words on the class that a class is contrasted with, such as `, not cat`; "" without a contrast."""
        if self.against is None or self.against[n, k] < 0:
            return ""
        label = self.against_labels[n][k] if self.against_labels else None
        return printable(f", not {label or f'class {self.against[n, k]}'}")

    def picture(
        self,
        n: int = 0,
        k: int | None = 0,
        *,
        alpha: float = DEFAULT_ALPHA,
        colour_map: str | None = None,
        beside: bool = False,
        layer: int | str | None = None,
    ) -> NDArray[np.uint8]:
        """Draw the heat map of an object over the photo, with its box bold and those of the others thin: [H,W,3] RGB.

        It is the `overlay` where there are no boxes. A very small photo is enlarged, so that labels can be read.

        Args:
            n: the index of the image.
            k: the index into this image's objects; None draws all of them, numbered from 1, each map at its strongest.
            alpha, colour_map, beside, layer: as for `overlay`.

        Raises:
            InputError, LayerError, ImageError: as `overlay`.
        """
        n, place = self._place(n, 0 if k is None else k) if self.classes.shape[1] else (n, 0)
        if k is not None:
            drawn = self.overlay(n, place, alpha=alpha, colour_map=colour_map, layer=layer)
        else:
            drawn = self._united(n, alpha=alpha, colour_map=colour_map, layer=layer)
        boxes = self._drawn_boxes(n)
        photo = self.pictures[n].image_rgb
        assert photo is not None  # it was drawn on
        with memory_for(self.pictures[n].name):
            if boxes:
                drawn = draw_boxes(drawn, boxes, chosen=None if k is None else place)
                photo = draw_boxes(photo, [])  # as large
            return side_by_side(photo, drawn) if beside else drawn

    def _united(self, n: int, *, alpha: float, colour_map: str | None, layer: int | str | None) -> NDArray[np.uint8]:
        """Draw the maps of all objects over the photo, each at its strongest; the photo alone for signed maps."""
        picture = self.pictures[n]
        there = [k for k in range(self.classes.shape[1]) if self.is_object(n, k)]
        if picture.image_rgb is None:
            raise InputError(_NO_PHOTO)
        if self.signed or not there:
            return picture.image_rgb
        heat = united(self.heatmap(n, k, layer=layer) for k in there)
        with memory_for(picture.name):
            return overlay(
                dimmed(picture.image_rgb) if self.is_guided else picture.image_rgb,
                heat,
                alpha=arguments.share("alpha", alpha),
                colour_map=DEFAULT_COLOUR_MAP if colour_map is None else arguments.text("colour_map", colour_map),
                seen=None if picture.placement.sees_all else picture.placement.seen(),
            )

    def _drawn_boxes(self, n: int) -> list[DrawnBox]:
        """Return the boxes of an image's objects for drawing, K of them; none where there are no boxes."""
        if self.boxes is None:
            return []
        return [
            DrawnBox(
                box=cast("tuple[float, float, float, float]", tuple(self.boxes[n, k].tolist()))
                if self.is_object(n, k)
                else None,
                label=(self.labels[n][k] if self.labels else None) or f"class {class_id}",
                class_id=max(class_id, 0),
                p=None if self.probabilities is None else float(self.probabilities[n, k]),
                number=k + 1,
            )
            for k, class_id in enumerate(self.classes[n].tolist())
        ]

    def value(self, n: int = 0, k: int = 0) -> float:
        """Return the value that a caption shows: the score, or for both classes of a number that number itself."""
        score = float(self.scores[n, k])
        return -score if self.is_number and self.classes[n, k] == 0 else score

    @property
    def shown_layers(self) -> list[int | str]:
        """Return the layers to draw: "fused" alone where layers are fused, else the index of each layer."""
        return [FUSED_LAYER] if self.fused is not None else [*range(len(self.layers))]

    def _place(self, n: int, k: int) -> tuple[int, int]:
        """Return the indices of an image and of one of its classes as Python ints; -1 is the last one.

        Raises:
            InputError: there is no such image or class.
        """
        images, classes = self.classes.shape
        return arguments.index("n", n, images, InputError), arguments.index("k", k, classes, InputError)

    def _layer_to_draw(self, layer: int | str | None) -> int | str:
        """Return the layer that is drawn for the argument `layer` of `heatmap`."""
        if layer is not None:
            return layer
        return 0 if self.fused is None else FUSED_LAYER

    def _layer_index(self, layer: int | str) -> int:
        """Return the index of a layer, or raise a LayerError if there is no such layer."""
        return layer_index(layer, self.layers, self.names, "This explanation")
