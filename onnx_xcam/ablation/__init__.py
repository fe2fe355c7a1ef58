"""This package runs the part of a model behind a layer by itself, for the scores without each of its channels."""

from onnx_xcam.ablation.channel_ablation import ChannelAblation, ScoreDecomposition
from onnx_xcam.ablation.open import ablations_of, open_ablations

__all__ = ["ChannelAblation", "ScoreDecomposition", "ablations_of", "open_ablations"]
