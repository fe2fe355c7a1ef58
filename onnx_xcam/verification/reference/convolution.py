"""This module holds corrected convolutions for the ONNX reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from onnx_xcam.verification.reference.windows import Windows


class Conv(OpRun):
    """Conv takes one step for each element of the kernel; the evaluator's own loops over output positions."""

    op_domain = ""

    def _run(self, x: Any, w: Any, b: Any = None, group: Any = None, **op: Any) -> tuple[Any, ...]:
        windows, group, rank = Windows(op, x.shape[2:], w.shape[2:]), group or 1, x.ndim - 2
        padded: Any = np.pad(x, [(0, 0), (0, 0), *zip(windows.pads[:rank], windows.pads[rank:], strict=True)])
        padded = padded.reshape(len(x), group, -1, *padded.shape[2:])
        filters = w.reshape(group, -1, *w.shape[1:])
        result: Any = np.zeros((len(x), group, filters.shape[1], *windows.count), np.result_type(x, w))
        for offset, where in windows.offsets():
            taken = padded[(..., *where)].reshape(*padded.shape[:3], -1)
            result += (filters[(..., *offset)] @ taken).reshape(result.shape)
        result = result.reshape(len(x), -1, *windows.count)
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)


class ConvTranspose(OpRun):
    """ConvTranspose takes one step for each element of the kernel, with the weights of each group.

    The evaluator's own takes the wrong weights for groups that are not depthwise, and loops over output positions.
    """

    op_domain = ""

    def _run(  # noqa: PLR0917  the evaluator calls it so
        self,
        x: Any,
        w: Any,
        b: Any = None,
        group: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        **op: Any,
    ) -> tuple[Any, ...]:
        rank, group, size, kernel = x.ndim - 2, group or 1, x.shape[2:], w.shape[2:]
        strides, dilations = op.get("strides") or [1] * rank, op.get("dilations") or [1] * rank
        extra, same = output_padding or [0] * rank, op.get("auto_pad") in ("SAME_UPPER", "SAME_LOWER")
        parts = zip(size, strides, kernel, dilations, extra, strict=True)
        full = [(n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in parts]
        shape = output_shape or ([n * s for n, s in zip(size, strides, strict=True)] if same else None)
        pads = [0] * 2 * rank if op.get("auto_pad") == "VALID" else op.get("pads") or [0] * 2 * rank
        begin = pads[:rank]
        if shape:
            total = [f - n for f, n in zip(full, shape, strict=True)]
            begin = [t // 2 if op.get("auto_pad") == "SAME_UPPER" else t - t // 2 for t in total]
        shape = shape or [f - low - high for f, low, high in zip(full, begin, pads[rank:], strict=True)]
        low, high = (
            max(0, *(-n for n in begin)),
            max(0, *(b + n - f for b, n, f in zip(begin, shape, full, strict=True))),
        )
        space = [f + low + high for f in full]
        images = x.reshape(len(x), group, -1, int(np.prod(size)))
        filters = w.reshape(group, -1, *w.shape[1:])
        canvas: Any = np.zeros((len(x), group, w.shape[1], *space), np.result_type(x, w))
        windows = Windows({**op, "auto_pad": None, "pads": None}, space, kernel)
        windows.count = list(size)
        for offset, where in windows.offsets():
            shifted = tuple(slice(s.start + low, s.stop + low, s.step) for s in where)
            canvas[(..., *shifted)] += (filters[(..., *offset)].swapaxes(1, 2) @ images).reshape(
                *canvas.shape[:3], *size
            )
        cut = tuple(slice(n + low, n + low + length) for n, length in zip(begin, shape, strict=True))
        result = canvas.reshape(len(x), -1, *space)[(..., *cut)]
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)
