"""What was to be known of how pictures were read, each thing once, however many pictures it holds for."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from onnx_xcam.explainer.picture import Picture

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass
class _Told:
    sentence: str
    pictures: int = 1


class Remarks:
    """Remarks on pictures, alike but for their numbers; pictures may come from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}

    def add(self, picture: Picture) -> None:
        """Take note of a picture that was read."""
        for remark in picture.remarks:
            with self._lock:
                alike = self._told.get(_NUMBER.sub("0", remark))
                if alike is None:
                    self._told[_NUMBER.sub("0", remark)] = _Told(f"{picture.name}: {remark}.")
                else:
                    alike.pictures += 1

    def first(self, start: int = 0) -> list[str]:
        """The sentences on the first picture of each kind, from the kind with this number on."""
        with self._lock:
            return [told.sentence for told in list(self._told.values())[start:]]

    def summed_up(self) -> list[str]:
        """The sentences on the first picture of each kind, with how many other pictures each holds for."""
        with self._lock:
            return [
                told.sentence if told.pictures == 1 else f"{told.sentence[:-1]} (so with {told.pictures - 1} more)."
                for told in self._told.values()
            ]
