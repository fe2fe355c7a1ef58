"""Explainer and Explanation: photos in, XGrad-CAM out, from the ONNX file alone.

Who holds whom:

    Explainer                      explain, stream, pickle
      |
      +-- Engine                   makes the maps; one of
            |
            +-- EmittedMaps        runs the file's own xcam_map (`emitted`, `running`)
            |     |
            +-- RecordedMaps       computes them in numpy (`recorded`), by one method or several
            |     |
            |   Recorder           one run: activations and gradients (`recorder`) -> Recording (`recording`)
            |     |   |
            |     |   +-- ChannelAblation   at each layer: scores without a channel (`ablation`)
            |     |   +-- Scorer   scores of masked or changed pictures (`scoring`)
            |     |
            +-----+-- OpenModel    what is open, once: preprocessing, labels, probabilities, notes (`model`)
                        |
                        +-- LoadedModel     the session, its metadata and what its inputs are fed (`load`)
                        +-- ModelInputs     how a photo becomes its input (`photo_pipeline`)

A picture goes down (`OpenModel.pictures`, `Engine.explain`, `Session.run`), an `Explanation` comes back. `ModelOptions`
states how all of this is opened.
"""

from onnx_xcam.errors import XcamWarning
from onnx_xcam.explainer.explainer import Explainer
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorder import Recorded, Recorder
from onnx_xcam.explainer.recording import Recording
from onnx_xcam.explainer.stream import Streamed

__all__ = [
    "Explainer",
    "Explanation",
    "ModelOptions",
    "Picture",
    "Recorded",
    "Recorder",
    "Recording",
    "Streamed",
    "XcamWarning",
]
