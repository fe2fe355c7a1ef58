"""This package reads what Hugging Face's transformers write beside a model: its image processor and its configuration.

The convention is the code of transformers 5.24: `image_processing_backends.py` holds the base pipeline, and
`models/*/image_processing_*.py` what each class changes (https://github.com/huggingface/transformers). Where the two
backends of a class differ, its torchvision backend is followed, which `AutoImageProcessor` takes where torchvision is
installed.
"""

from __future__ import annotations

from onnx_xcam.producers.dialect import Dialect
from onnx_xcam.producers.dialects.hugging_face import configuration, processor

PROCESSOR = Dialect(
    "Hugging Face image processor",
    processor.FILES,
    processor.recognises,
    processor.read,
)
CONFIGURATION = Dialect("Hugging Face configuration", ("config.json",), configuration.recognises, configuration.read)
