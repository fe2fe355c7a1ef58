"""How much a run of a model is asked for at once, and how many runs are under way: every such bound stands here.

What a run takes per image, class or mask, the callers know; here is what it may take, each bound named for what it
bounds. Fewer and larger runs save what is the same for all of a run, larger ones than the bounds were no faster.
"""

from __future__ import annotations

IMAGES_PER_RUN = 32
"""A model of any batch size is fed at most this many images at once."""
IMAGES_PER_RUN_OF_A_STREAM = 8
"""Images of a stream share a run on a GPU. A CPU gains nothing from larger batches, and shows results one by one."""
BYTES_OF_OWN_BATCH = 2 << 30
"""A model with a batch size of its own is refused where its pictures take more than this."""
BYTES_OF_CHANGED_PICTURES = 64 << 20
"""Pictures that one photo was turned into, by masking it or taking pixels away, take at most this in a run."""
BYTES_OF_CLASSES = 2 << 30
"""Many classes are cut so that what depends on them, their gradients above all, stays about within this."""
CLASSES_NOT_WORTH_CUTTING = 16
"""So few classes, of all images together, are not worth the time that following their memory takes."""
CLASSES_OF_A_DECOMPOSITION = 8
"""What tells what scores are made of holds the gradients of so many classes at once."""
BYTES_OF_MASKS, BYTES_OF_MASKS_ELSEWHERE = 32 << 20, 256 << 20
"""Masks of a layer's channels take about this in a run, on a CPU and on other providers. On two cores, larger batches
than fill the former were not faster (EfficientNet-Lite0 at three layers, ViT-B/16)."""
ARENA = 2
"""ONNX Runtime's arena rounds up to powers of two, and some kernels copy: measured were 1.2 to 2.5 times the memory
that the graph needs (ResNet-50, MobileNetV2, DenseNet-121, ViT-B/16 at a layer in the middle)."""
RUNS_AT_ONCE = 2
"""One run leaves cores idle between its operators, a second one fills them; each takes memory of its own."""
WORKERS = 4
"""Threads of a stream, at most: each holds an image of perhaps a hundred megabytes."""


def classes_per_run(each: int) -> int:
    """How many classes a run is asked for at most, where one of all its images takes so many bytes."""
    return max(1, BYTES_OF_CLASSES // each)


def masks_per_run(each: int, provider: str) -> int:
    """How many masks of a layer's channels a run is fed at most, where the graph needs so many bytes for one."""
    bound = BYTES_OF_MASKS if provider == "CPUExecutionProvider" else BYTES_OF_MASKS_ELSEWHERE
    return max(1, bound // max(1, ARENA * each))


def changed_pictures_per_run(each: int, most: int = IMAGES_PER_RUN) -> int:
    """How many pictures that one photo was turned into are fed at once, of so many bytes each; `most` at most."""
    return max(1, min(most, BYTES_OF_CHANGED_PICTURES // max(1, each)))
