"""This module collects the remarks on how pictures were read, so that each is made once for all pictures."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from onnx_xcam.explainer.picture import Picture

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass
class _Remark:
    """A _Remark is the sentence on the first picture of a kind, with the number of pictures of that kind."""

    sentence: str
    pictures: int = 1


class Remarks:
    """Remarks count pictures by what there is to say of how they were read; several threads may add pictures.

    Remarks that differ only in their numbers, such as sizes, are of one kind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[str, _Remark] = {}

    def add(self, picture: Picture) -> None:
        """Add the remarks on a picture that was read."""
        for remark in picture.remarks:
            with self._lock:
                alike = self._kinds.get(_NUMBER.sub("0", remark))
                if alike is None:
                    self._kinds[_NUMBER.sub("0", remark)] = _Remark(f"{picture.name}: {remark}.")
                else:
                    alike.pictures += 1

    def first(self, start: int = 0) -> list[str]:
        """Return the sentence on the first picture of each kind, for all kinds but the first `start`."""
        with self._lock:
            return [remark.sentence for remark in list(self._kinds.values())[start:]]

    def summed_up(self) -> list[str]:
        """Return the sentence on the first picture of each kind, with the number of other pictures of that kind."""
        with self._lock:
            return [
                one.sentence if one.pictures == 1 else f"{one.sentence[:-1]} (so with {one.pictures - 1} more)."
                for one in self._kinds.values()
            ]
