"""This module holds the CAM methods without gradients, for numpy only: an ONNX graph cannot carry them.

Ablation-CAM and Score-CAM take many runs of the model, and Eigen-CAM takes singular vectors, for which ONNX has no
operator.
"""

from __future__ import annotations

import numpy as np

from onnx_xcam.cams.contributions import Contributions, Weighted


def eigen_cam(activations: np.ndarray, classes: int) -> Contributions:
    """map = the projection of A, centred over space, on its first principal direction; the same for every class.

    Muhammad and Yeasin, "Eigen-CAM", IJCNN 2020, arXiv 2008.00299. A is centred as in pytorch-grad-cam: without that,
    the first direction is that of the mean. The sign of a singular vector is arbitrary; here it is the one with which
    the map rises with the strength of the activations, sum_k |A_k|.

    Args:
        activations: A, `[N, C, S]`.
        classes: K.
    """
    centred = activations - activations.mean(-1, keepdims=True)
    directions = np.stack([_first_direction(one) for one in centred])
    strength = np.abs(activations).sum(1)
    projected = np.einsum("nc,ncs->ns", directions, centred)
    sign = np.where((projected * (strength - strength.mean(-1, keepdims=True))).sum(-1) < 0, -1.0, 1.0)
    weights = (directions * sign[:, None]).astype(activations.dtype)
    return [Weighted(np.repeat(weights[:, None], classes, axis=1), centred)]


def _first_direction(centred: np.ndarray) -> np.ndarray:
    """Return the first left singular vector, [C], of `[C, S]`; zeros if nothing varies or a value is not finite."""
    if not np.isfinite(centred).all() or not centred.any():
        return np.zeros(len(centred))
    left, _, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    return np.asarray(left[:, 0])


def ablation_cam(activations: np.ndarray, scores: np.ndarray, ablated: np.ndarray) -> Contributions:
    """w_k = (S - S without channel k) / |S|;  map = ReLU( sum_k w_k A_k ).

    Desai and Ramaswamy, "Ablation-CAM", WACV 2020, eq. 3, which divides by S. The divisor is only a scale, but of a
    negative score it would turn every weight round, and the map would show what speaks against the class.

    Args:
        activations: A, `[N, C, S]`.
        scores: S, `[N, K]`.
        ablated: the scores without channel k, `[N, K, C]`.
    """
    scale = np.where(scores == 0, 1, np.abs(scores))
    return [Weighted((scores[..., None] - ablated) / scale[..., None], activations)]


def score_cam(activations: np.ndarray, masked: np.ndarray) -> Contributions:
    """w = softmax over the channels of the score with the input masked by channel k;  map = ReLU( sum_k w_k A_k ).

    Wang et al., "Score-CAM", CVPR Workshops 2020, arXiv 1910.01279, algorithm 1. The score is the one before the
    model's softmax; that of a black picture, which the paper subtracts, cancels in the softmax.

    Args:
        activations: A, `[N, C, S]`.
        masked: the scores of the masked inputs, `[N, K, C]`.
    """
    powers = np.exp(masked - masked.max(-1, keepdims=True))
    return [Weighted(powers / powers.sum(-1, keepdims=True), activations)]


def masks(activations: np.ndarray) -> np.ndarray:
    """Return Score-CAM's masks, `[C, H, W]` in 0..1: each channel of A, less its minimum, divided by its range.

    The mask of a channel that is the same everywhere is 0.

    Args:
        activations: A of one image, resized to the input, `[C, H, W]`.
    """
    low = activations.min((1, 2), keepdims=True)
    spread = activations.max((1, 2), keepdims=True) - low
    return np.asarray((activations - low) / np.where(spread > 0, spread, 1))
