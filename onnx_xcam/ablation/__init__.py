"""The part of a model from a layer to the score in a session of its own: scores with channels of the layer left out."""

from onnx_xcam.ablation.channel_ablation import Balance, Head
from onnx_xcam.ablation.open import heads_of, open_heads

__all__ = ["Balance", "Head", "heads_of", "open_heads"]
