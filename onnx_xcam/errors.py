"""This module holds every error that a user can cause, as one tree of classes.

XcamError
├── ModelError             the file is no usable ONNX model
│   ├── UnsupportedOpError an operator without a gradient rule lies between layer and score
│   ├── ShapeError         the surgery needs a rank or a dimension that the model does not state
│   └── UnexpectedError    analysing the model failed where nothing foresaw it: a bug here or a damaged file
├── LayerError             the target layer is unknown, ambiguous, not spatial or unconnected
├── ScoreError             no usable class score was found
├── ClassError             a class is out of range or an unknown label
├── InputError             the model's inputs are not what an image can be fed to
├── ImageError             a picture cannot be read or has an impossible size
│   └── EncodingError      a picture cannot be written as it is (an OutputError as well)
├── PreprocessError        a preprocessing description is wrong
├── LabelsError            a labels file is wrong
├── TruthError             masks or boxes of what photos show are wrong, or do not fit the photos
├── ProviderError          an execution provider is missing or failed to start
├── OutputError            a result cannot be written
└── DependencyError        an optional package cannot be imported

Messages are one sentence (or a few) that say what is wrong, where, and what to do about it. Names in them come from
files: what could harm a terminal is spelled out.
"""

from __future__ import annotations

from typing import ClassVar

from onnx_xcam.text import LONGEST_QUOTE, printable


class XcamError(Exception):
    """XcamError is the base of all errors that a user of onnx_xcam can cause and mend.

    Attributes:
        longest: a message of more characters is cut.
    """

    longest: ClassVar[int] = 20_000

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message, self.longest))


class ModelError(XcamError):
    """The file or object is no ONNX model that can be used."""


class UnsupportedOpError(ModelError):
    """Operators without a gradient rule lie between the target layer and the score."""


class ShapeError(ModelError):
    """The surgery needs a rank or a dimension that shape inference could not find."""


class UnexpectedError(ModelError):
    """Analysing the model failed where nothing foresaw it: a bug of onnx_xcam or a damaged file, to be reported."""


class LayerError(XcamError):
    """The target layer is unknown, ambiguous, not spatial, or the score does not depend on it."""


class ScoreError(XcamError):
    """No class score was found, or the named one cannot serve as one."""


class ClassError(XcamError):
    """A class is out of range, or its label is unknown."""


class InputError(XcamError):
    """The model's inputs are not what an image can be fed to, or a feed does not fit them."""


class ImageError(XcamError):
    """A picture cannot be read or has an impossible size."""


class PreprocessError(XcamError):
    """A preprocessing description is wrong or does not fit the model's input."""

    longest = LONGEST_QUOTE


class LabelsError(XcamError):
    """A labels file cannot be read or does not fit the model."""

    longest = LONGEST_QUOTE


class TruthError(XcamError):
    """Masks or boxes of what photos show cannot be read, or do not fit the photos."""


class ProviderError(XcamError):
    """An execution provider is not available or could not be started."""


class OutputError(XcamError):
    """A result cannot be written."""


class EncodingError(ImageError, OutputError):
    """A picture cannot be encoded: it is larger than its format can hold, for instance."""


class DependencyError(XcamError):
    """An optional package that this step needs cannot be imported."""


class XcamWarning(UserWarning):
    """An XcamWarning says that something was assumed, or that a map says less than it seems to."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))
