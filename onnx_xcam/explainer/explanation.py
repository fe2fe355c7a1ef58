"""An Explanation is what the Explainer returns: the maps by each method, what they warn of, and the notebook's view."""

from __future__ import annotations

import copy
import itertools

import numpy as np

from onnx_xcam import contract
from onnx_xcam.cams.methods import find_method
from onnx_xcam.cams.status import status_words
from onnx_xcam.errors import XcamError
from onnx_xcam.explainer.class_maps import ClassMaps
from onnx_xcam.explainer.notebook import notebook_html
from onnx_xcam.images.write import encode_image
from onnx_xcam.text import printable


class Explanation(ClassMaps):
    """An Explanation holds the maps of N images, K classes each, by one method or by several.

    Attributes:
        classes: int64 [N,K]: the classes explained, -1 and the like resolved.
        scores: float32 [N,K]: their scores, before any softmax.
        probabilities: float32 [N,K], or None if the model tells none: see docs/inputs-and-scores.md.
        labels: N lists of K labels (None for a class without one), or None if no labels are known.
        layers: names of the target layers' tensors.
        names: for each layer its other names: the one by which it was requested, its node, its module path.
        method: the CAM method.
        methods: all methods by which the images were explained in the same run, this one first; `by` returns the
            explanation by each.
        by_others: the explanations by the other methods.
        signed: whether the maps also show, as negative values, what speaks against a class.
        fused: float32 [N,K,h,w]: the maps of all layers as one, within -1..1; None if fusion was not requested.
        is_number: whether the score is one number, such as an age or a distance: class 1 stands for what raises it,
            with the number as its score, and class 0 for what lowers it, with the number's negative.
        task: what the model is for, such as "classification" or "detection".
        objects: int64 [N,K]: the candidates that were explained, -1 where there is no such object, whose map, box and
            score are zero and whose status is 4; None for a model without objects.
        boxes: float32 [N,K,4]: x1, y1, x2, y2 of the objects in the photos' pixels, which may reach beyond a photo's
            edge; None where they are not known.
        against: int64 [N,K]: the classes with which those explained are contrasted, -1 for none; None without contrast.
        pictures: the N images.
        notes: what was assumed for the run (layer, score, preprocessing, provider, labels).
    """

    by_others: tuple[Explanation, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods by which the images were explained in the same run, that of these maps first."""
        return (self.method, *(one.method for one in self.by_others))

    def by(self, method: str) -> Explanation:
        """Return the explanation of the same images by one of `methods`.

        Raises:
            XcamError: the images were not explained by this method.
        """
        wanted = find_method(method).name
        for one in (self, *self.by_others):
            if one.method == wanted:
                return one
        raise XcamError(f"The images were explained by {', '.join(self.methods)}, and not by {wanted}.")

    def without_missing(self) -> Explanation:
        """Return the explanation of one image without the objects that the image does not have; there may be none left.

        Raises:
            ValueError: it is of several images.
        """
        if len(self.pictures) != 1:
            raise ValueError("only an image of its own can have fewer objects")
        if self.objects is None or (self.objects >= 0).all():
            return self
        there = self.objects[0] >= 0
        kept = copy.copy(self)
        for name in ("classes", "scores", "probabilities", "objects", "boxes", "against", "fused"):
            value = getattr(self, name)
            setattr(kept, name, None if value is None else value[:, there])
        for name in ("labels", "against_labels"):
            rows = getattr(self, name)
            setattr(kept, name, None if rows is None else [list(itertools.compress(rows[0], there.tolist()))])
        kept._maps = tuple(maps[:, there] for maps in self._maps)
        kept._status = tuple(status[:, there] for status in self._status)
        kept.by_others = tuple(one.without_missing() for one in self.by_others)
        return kept

    def warnings(self) -> list[str]:
        """Return the remarks on how the picture files were read, and then the warnings of `map_warnings`."""
        return [*self._remarks(), *self.map_warnings()]

    def method_warnings(self) -> list[str]:
        """Return the same as `warnings`, but without what is said of the maps by the other methods."""
        return [*self._remarks(), *self._own_map_warnings()]

    def map_warnings(self) -> list[str]:
        """Return a sentence for each map that is blank or holds values that are not finite, by any of the methods.

        Warnings about the model that only the run could give come first. A sentence that holds for several methods is
        returned once.
        """
        by_others = (warning for one in self.by_others for warning in one.map_warnings())
        return list(dict.fromkeys([*self._own_map_warnings(), *by_others]))

    def _remarks(self) -> list[str]:
        """Return a sentence for each remark on how the picture files were read."""
        of_files = [f"{one.name}: {remark}." for one in self.pictures for remark in one.remarks]
        return list(map(printable, dict.fromkeys(of_files)))

    def _own_map_warnings(self) -> list[str]:
        """Return the warnings of the run, and a sentence for each map of this method that is not good."""
        return list(dict.fromkeys([*self._run_warnings, *self._status_warnings()]))

    def _status_warnings(self) -> list[str]:
        """Return a sentence for each map of this method with a status other than good."""
        sentences = []
        for layer, status in zip(self.layers, self._status, strict=True):
            for n, k in np.argwhere((status != contract.GOOD) & (status != contract.NO_OBJECT)).tolist():
                reason = status_words(int(status[n, k]))
                label = self.labels[n][k] if self.labels else None
                named = f" ({label})" if label else ""
                where = f"{self.pictures[n].name}, class {self.classes[n, k]}{named}, layer {layer!r}"
                sentences.append(printable(f"{where}: {reason}."))
        return sentences

    def _repr_png_(self) -> bytes | None:
        """Return the first overlay as a PNG file, for notebooks; None for a ready tensor, which has no photo."""
        return None if self.pictures[0].image_rgb is None else encode_image(self.overlay(), ".png")

    def _repr_html_(self) -> str:
        """Return HTML that shows every map over its photo, for notebooks."""
        return notebook_html(self)

    def __repr__(self) -> str:
        n, k = self.classes.shape
        what = "class(es)" if self.objects is None else "object(s)"
        return f"<Explanation of {n} image(s), {k} {what} each, layer {self.layers[0]!r}: {self.caption()}>"
