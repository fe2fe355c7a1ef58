"""This module emits which candidates of a detector are kept as objects: above a threshold, and not suppressed.

A candidate is an object of its best class. Of two objects of one class whose boxes overlap by more than a threshold
(intersection over union), the one with the lower probability is dropped: greedy non-maximum suppression class by class,
as detectors are used and as ONNX's NonMaxSuppression computes it.
"""

from __future__ import annotations

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.targets.candidates.appended import Columns

_NOT_A_NUMBER = 2.0
"""The rank of a candidate whose probability is no number, above that of every other."""
_MOST = 300
"""At most so many objects of each class are kept, as detectors' own pipelines do."""


def ranks(columns: Columns, conf: float, iou: float | None) -> Value:
    """Emit the rank of each candidate, float32 `[N, Q]`: its probability if it is kept as an object, else -1.

    A candidate with a probability that is no number comes first, so that a run which has overflowed shows in the status
    of its best object and is not taken for a picture without objects.

    Args:
        columns: the candidates.
        conf: the probability that an object exceeds.
        iou: the overlap above which the worse of two boxes is dropped; None if the file itself has picked the objects,
            or boxes are not known.
    """
    p = columns.probabilities
    best = p.max([2], keepdims=False)
    total = p.sum([2], keepdims=False)  # the maximum of numbers and others may be a number
    is_number = total.equal(total)
    if iou is None or columns.boxes is None:
        return is_number.where((best > conf).where(best, -1), _NOT_A_NUMBER)
    emitter = p.emitter
    own = p.argmax(2).squeeze([2]).one_hot(p.range_of(2), p.dtype)
    of_classes = (own * p).transpose([0, 2, 1])
    limits = [emitter.constant(np.array([limit], np.float32)) for limit in (iou, conf)]
    most = emitter.constant(np.array([_MOST], np.int64))
    chosen = emitter.one("NonMaxSuppression", [columns.boxes, of_classes, most, *limits], np.int64, (None, 3))
    cells = chosen.gather(emitter.constant(np.array([0, 2], np.int64)), 1)
    nothing = best.filled([shapes.dim_part(best, 0), shapes.dim_part(best, 1)], -1).with_shape(best.shape)
    found = emitter.one("GatherND", [best, cells], best.dtype, (None,))
    kept = emitter.one("ScatterND", [nothing, cells, found], best.dtype, best.shape)
    return is_number.where(kept, _NOT_A_NUMBER)
