"""This module holds every bound on how much one run of a model computes at once and on how many runs go on at once.

The callers know how many bytes a run takes per image, class or mask; the bounds say how many it may take. Fewer and
larger runs save what is computed once for each run; runs larger than the bounds were no faster.
"""

from __future__ import annotations

IMAGES_PER_RUN = 32
"""A model of any batch size is fed at most this many images at once."""
IMAGES_PER_RUN_OF_A_STREAM = 8
"""At most this many images of a stream share a run on a GPU. A CPU gains nothing from larger batches: there each image
has a run of its own, and its result is shown at once."""
BYTES_OF_OWN_BATCH = 2 << 30
"""A model with a batch size of its own is refused where its pictures take more than this."""
BYTES_OF_CHANGED_PICTURES = 64 << 20
"""Variants of one photo, made by masking it or taking pixels away, take at most this in a run."""
BYTES_OF_CLASSES = 2 << 30
"""Many classes are divided among runs, so that tensors with a class axis, mostly gradients, stay about within this."""
CLASSES_NOT_WORTH_CUTTING = 16
"""So few classes, of all images together, share a run: estimating their memory would take longer than it saves."""
CLASSES_OF_A_DECOMPOSITION = 8
"""The decomposition of scores holds the gradients of so many classes at once."""
BYTES_OF_MASKS, BYTES_OF_MASKS_ELSEWHERE = 32 << 20, 256 << 20
"""Masks of a layer's channels take about this in a run, on a CPU and on other providers. On two cores, larger batches
than fill the former were not faster (EfficientNet-Lite0 at three layers, ViT-B/16)."""
ARENA = 2
"""A run takes about this many times the memory that the graph needs: ONNX Runtime's arena rounds up to powers of two,
and some kernels copy. Measured were 1.2 to 2.5 times (ResNet-50, MobileNetV2, DenseNet-121, ViT-B/16 at a layer in the
middle)."""
RUNS_AT_ONCE = 2
"""So many runs go on at once: one leaves cores idle between its operators, which a second one uses. Each takes memory
of its own."""
WORKERS = 4
"""A stream has at most this many threads, since each holds an image of perhaps a hundred megabytes."""


def classes_per_run(each: int) -> int:
    """Return how many classes a run computes at most, where one class of all images of the run takes `each` bytes."""
    return max(1, BYTES_OF_CLASSES // each)


def masks_per_run(each: int, provider: str) -> int:
    """Return how many masks of a layer's channels a run is fed at most, where the graph needs `each` bytes for one."""
    bound = BYTES_OF_MASKS if provider == "CPUExecutionProvider" else BYTES_OF_MASKS_ELSEWHERE
    return max(1, bound // max(1, ARENA * each))


def changed_pictures_per_run(each: int, most: int = IMAGES_PER_RUN) -> int:
    """Return how many variants of one photo, of `each` bytes, a run is fed at most; never more than `most`."""
    return max(1, min(most, BYTES_OF_CHANGED_PICTURES // max(1, each)))
