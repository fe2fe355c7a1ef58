"""How much more memory a run takes where an input is one longer: which tensors are in use at the same time."""

from __future__ import annotations

import pytest

from helpers.models import build
from onnx_xcam.surgery.analysis.peak_memory import bytes_more

OF_ONE_TENSOR = 3 * 4 * 4 * 4
"""The bytes of one more image in each tensor."""


@pytest.mark.parametrize(
    ("body", "outputs", "tensors"),
    [
        ("a = Relu(image) b = Neg(a) c = Exp(b) y = Neg(c)", "y", 2),
        ("a = Relu(image) b = Neg(a) c = Exp(b) y = Add(a, c)", "y", 3),
        ("a = Relu(image) b = Neg(a) c = Exp(b) d = Neg(c) y = Sum(a, b, d)", "y", 4),
        ("a = Relu(image) b = Neg(a) c = Exp(b) y = Neg(c)", "by", 3),
    ],
    ids=["a chain", "a skip connection", "two that are read again", "an output of the model"],
)
def test_a_tensor_takes_memory_until_it_is_read_for_the_last_time(body, outputs, tensors):
    given = ", ".join(f"float[N,3,4,4] {name}" for name in outputs)
    model = build(body, inputs="float[N,3,4,4] image", outputs=given)
    few, more = ({"image": (n, 3, 4, 4)} for n in (2, 3))
    assert bytes_more(model.SerializeToString(), few, more) == tensors * OF_ONE_TENSOR
