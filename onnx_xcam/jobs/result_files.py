"""This module writes the files of `explain` for each photo: pictures, and the raw maps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnx_xcam.common.files import written
from onnx_xcam.errors import OutputError
from onnx_xcam.explainer import Explanation
from onnx_xcam.explainer.class_maps import FUSED_LAYER
from onnx_xcam.images.write import encode_image
from onnx_xcam.jobs.file_names import layer_parts, name_of_all, picture_name, raw_fused_name, raw_names


@dataclass(frozen=True)
class Writing:
    """A Writing states what `explain` writes for each photo.

    Attributes:
        pictures: whether it writes a picture for each method, layer and class.
        raw: whether it writes the unscaled maps.
        beside: whether the pictures have the photo beside the explanation.
    """

    pictures: bool
    raw: bool
    beside: bool

    def described(self) -> list[str]:
        """Return in words what is written for each photo."""
        beside = self.pictures and self.beside
        kinds = {"pictures": self.pictures and not beside, "pictures beside photos": beside, "raw": self.raw}
        return [name for name, wanted in kinds.items() if wanted] or ["results only"]


class ResultFiles:
    """ResultFiles write the files of each photo into the output folder, and never replace a photo."""

    def __init__(self, folder: Path, writing: Writing, photos: Collection[Path], names: Mapping[Path, str]) -> None:
        """Prepare to write.

        Args:
            folder: the folder of the results.
            writing: what is written for each photo.
            photos: the resolved paths of the photos.
            names: the stem of the files of each photo, by the photo as it was named.
        """
        self._folder, self._writing, self._photos, self._names = folder, writing, photos, names

    def write(self, image: Path, explanations: Sequence[Explanation]) -> tuple[list[Path], list[str]]:
        """Write the files of a photo, given its explanation by each method; return the files, and lines to print.

        Raises:
            ImageError: the photo is too large to be drawn.
            OutputError: a file cannot be written.
        """
        files, lines = [], []
        for explanation in explanations:
            pictures, printed = self._pictures(image, explanation, explanation.method if len(explanations) > 1 else "")
            files += pictures
            lines += printed
        if self._writing.raw:
            files.append(self._write_raw(explanations, image))
        return files, lines

    def _pictures(self, image: Path, explanation: Explanation, method: str) -> tuple[list[Path], list[str]]:
        """Write the pictures of a photo by one method, if they are wanted; return the files, and lines to print."""
        files, lines = [], []
        shown = [FUSED_LAYER] if explanation.fused is not None else explanation.layers
        for layer, part in zip(shown, layer_parts(shown), strict=True):
            where = (f"  method {method}" if method else "") + (f"  layer {layer}" if part else "")
            for k, class_id in enumerate(explanation.classes[0].tolist()):
                line = f"{image.name}  {explanation.caption(0, k)}{where}"
                if self._writing.pictures:
                    rank = None if explanation.objects is None else k + 1
                    name = picture_name(self._names[image], method, part, class_id, rank)
                    files.append(self._draw(name, explanation, k, layer))
                    line += f"  -> {files[-1]}"
                lines.append(line)
            count = explanation.classes.shape[1]
            if explanation.objects is not None and count and self._writing.pictures:
                name = name_of_all(self._names[image], method, part)
                files.append(self._draw(name, explanation, None, layer))
                what = f"all {count} objects" if count > 1 else "1 object"
                lines.append(f"{image.name}  {what}{where}  -> {files[-1]}")
        return files, lines

    def _draw(self, name: str, explanation: Explanation, k: int | None, layer: int | str) -> Path:
        """Write the picture of a class or an object, or for None that of all objects, and return its file."""
        path = self._free(name)
        picture = explanation.picture(0, k, layer=layer, beside=self._writing.beside)
        with written(path) as file:
            file.write(encode_image(picture, ".png"))
        return path

    def _write_raw(self, explanations: Sequence[Explanation], image: Path) -> Path:
        """Write the raw maps of a photo by all methods, and return the file."""
        path = self._free(f"{self._names[image]}.npz")
        maps = {}
        for one in explanations:
            names = raw_names(one.method if len(explanations) > 1 else "", len(one.layers))
            maps.update({name: one.maps_of(layer)[0] for layer, name in enumerate(names)})
            if one.fused is not None:
                maps[raw_fused_name(names)] = one.fused[0]
        with written(path) as file:
            # The file is not compressed: that would take twenty times as long and save only a tenth of the size.
            np.savez(file, classes=explanations[0].classes[0], scores=explanations[0].scores[0], **maps)
        return path

    def _free(self, name: str) -> Path:
        """Return the path of a file in the output folder, or raise an OutputError if a photo has that path."""
        path = self._folder / name
        if path.resolve() in self._photos:
            raise OutputError(f"'{path}' is one of the photos; name another folder with -o.")
        return path
