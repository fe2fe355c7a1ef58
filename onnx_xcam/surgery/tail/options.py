"""This module defines the options of the part that is added to a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx_xcam import contract
from onnx_xcam.cams.fusion import Fusion, check_fusion
from onnx_xcam.cams.methods import AUTO_METHOD, emitted_method
from onnx_xcam.common.arguments import flag, one_of, text
from onnx_xcam.contract import ClassInput, Emit
from onnx_xcam.errors import XcamError


@dataclass(frozen=True, kw_only=True)
class TailOptions:
    """TailOptions say what is added to a model, and in which form; see `instrument`.

    Raises:
        XcamError: there is no such method, output, kind of class input or fusion.
    """

    method: str = AUTO_METHOD
    emit: Sequence[Emit] = contract.DEFAULT_EMIT
    class_input: ClassInput = "optional"
    classes: Sequence[int] | None = None
    relu: bool = True
    fuse: Fusion | None = None
    objects: Sequence[int] | None = None
    contrast: bool = False

    def __post_init__(self) -> None:
        if text("method", self.method) != AUTO_METHOD:
            emitted_method(self.method)
        is_list = isinstance(self.emit, Sequence) and not isinstance(self.emit, str)
        wrong = [kind for kind in self.emit if kind not in contract.EMITS] if is_list else self.emit
        if not is_list or wrong:
            raise XcamError(f"emit takes a list of {', '.join(contract.EMITS)}, not {wrong!r}.")
        one_of("class_input", self.class_input, contract.CLASS_INPUTS)
        object.__setattr__(self, "relu", flag("relu", self.relu))  # the metadata need Python's bool, not NumPy's
        object.__setattr__(self, "contrast", flag("contrast", self.contrast))
        check_fusion(self.fuse, layers=None, relu=self.relu)
