"""This package explains photos: an Explainer opens an ONNX file, and returns Explanations with their XGrad-CAM maps.

The objects hold each other like this:

    Explainer                      explains photos, one by one or as a stream; can be pickled
      |
      +-- Engine                   makes the maps; it is one of
            |
            +-- EmittedMaps        runs the file's own xcam_map (`emitted`, `running`)
            |     |
            +-- RecordedMaps       computes them in numpy (`recorded`), by one method or several
            |     |
            |   Recorder           runs a photo once (`recorder`) and returns a Recording: activations and gradients
            |     |   |
            |     |   +-- ChannelAblation   gives a layer's scores without each channel (`ablation`)
            |     |   +-- Scorer   gives the scores of masked or changed pictures (`scoring`)
            |     |
            +-----+-- OpenModel    has preprocessing, labels, probabilities and notes (`model`)
                        |
                        +-- LoadedModel     has the session, its metadata and the values of other inputs (`load`)
                        +-- ModelInputs     turns a photo into the model's input (`photo_pipeline`)

A photo becomes a `Picture` (`OpenModel.pictures`), which goes down to `Engine.explain` and `Session.run`; what comes
back up is an `Explanation`. `ModelOptions` states how a model is opened.
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
