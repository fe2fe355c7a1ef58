"""What a graph proves of the values of its picture: rule by rule, and where nothing is proved."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.models import build
from onnx_xcam.surgery.analysis.input_scaling import scaling
from onnx_xcam.surgery.analysis.input_values import InputValues, input_values
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.submodels.front import front

FIRST = "float[1,3,8,8] image"
LAST = "float[1,8,8,3] image"
TO_FIRST = "t = Transpose<perm = [0, 3, 1, 2]>(s)"
NETWORK = "y = Conv(t, w)"
PIXELS, UNIT, SIGNED = (0, 255), (0, 1), (-1, 1)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CAFFE = (103.939, 116.779, 123.68)


def column(*values: float) -> np.ndarray:
    """One number per channel, for channels that stand first."""
    return np.float32(values).reshape(-1, 1, 1)


def row(*values: float) -> np.ndarray:
    """One number per channel, for channels that stand last."""
    return np.float32(values)


def number(value: float) -> np.ndarray:
    return np.float32(value)


def proved(
    body: str, weights=None, inputs: str = FIRST, outputs: str = "float[1,?,?,?] y", channels: int = 3, **options
):
    everything = {name: np.asarray(value) for name, value in (weights or {}).items()}
    everything["w"] = np.ones((4, channels, 3, 3), np.float32)
    model = build(f"{body} {NETWORK}", everything, inputs=inputs, outputs=outputs, **options)
    found = input_values(prepare(model), "image")
    assert input_values(prepare(front(model, "image")), "image") == found, "the front alone proves the same"
    return found


STANDARD = "a = Sub(image, m) t = Div(a, s)"
BATCH_NORM = "t = BatchNormalization(image, g, b, m, v)"
QDQ = "q = QuantizeLinear(image, s, z) p = DequantizeLinear(q, s, z)"
PROOFS = {
    "a factor of 1/255": ("t = Mul(image, k)", {"k": number(1 / 255)}, FIRST, PIXELS, None),
    "divided by 255, channels last": ("s = Div(image, k)" + TO_FIRST, {"k": number(255)}, LAST, PIXELS, None),
    "divided by 256": ("t = Div(image, k)", {"k": number(256)}, FIRST, PIXELS, None),
    "1/127.5, less 1": (
        "a = Mul(image, k) t = Sub(a, one)",
        {"k": number(1 / 127.5), "one": number(1)},
        FIRST,
        PIXELS,
        None,
    ),
    "1/128 of what is above 127.5": (
        "a = Sub(image, m) t = Mul(a, k)",
        {"m": number(127.5), "k": number(1 / 128)},
        FIRST,
        PIXELS,
        None,
    ),
    "inverted": ("a = Div(image, k) t = Sub(one, a)", {"k": number(255), "one": number(1)}, FIRST, PIXELS, None),
    "mean and std of 0..1": (
        STANDARD,
        {"m": column(*IMAGENET["mean"]), "s": column(*IMAGENET["std"])},
        FIRST,
        UNIT,
        "RGB",
    ),
    "mean and std of 0..255, BGR": (
        STANDARD,
        {"m": column(*CAFFE), "s": column(57.375, 57.12, 58.395)},
        FIRST,
        PIXELS,
        "BGR",
    ),
    "a mean alone": ("t = Sub(image, m)", {"m": column(*CAFFE)}, FIRST, PIXELS, "BGR"),
    "1/255 first, then mean and std": (
        "i = Div(image, k) a = Sub(i, m) t = Div(a, s)",
        {"k": number(255), "m": column(*IMAGENET["mean"]), "s": column(*IMAGENET["std"])},
        FIRST,
        PIXELS,
        "RGB",
    ),
    "0.5 and 0.5": (STANDARD, {"m": number(0.5), "s": number(0.5)}, FIRST, UNIT, None),
    "times 255, less a mean": (
        "a = Mul(image, k) t = Sub(a, m)",
        {"k": number(255), "m": column(*CAFFE)},
        FIRST,
        UNIT,
        "BGR",
    ),
    "CLIP's mean and std, of eight digits": (
        STANDARD,
        {"m": column(0.48145466, 0.4578275, 0.40821073), "s": column(0.26862954, 0.26130258, 0.27577711)},
        FIRST,
        UNIT,
        "RGB",
    ),
    "CIFAR's mean and std, as a factor and a shift": (
        "a = Mul(image, k) t = Add(a, b)",
        {
            "k": 1 / column(0.2023, 0.1994, 0.2010),
            "b": -column(0.4914, 0.4822, 0.4465) / column(0.2023, 0.1994, 0.2010),
        },
        FIRST,
        UNIT,
        None,
    ),
    "MNIST's mean and std": (STANDARD, {"m": number(0.1307), "s": number(0.3081)}, FIRST, UNIT, None),
    "-1..1 to 0..1": ("a = Mul(image, k) t = Add(a, k)", {"k": number(0.5)}, FIRST, SIGNED, None),
    "-1..1 to 0..255": (
        "a = Add(image, one) t = Mul(a, k)",
        {"k": number(127.5), "one": number(1)},
        FIRST,
        SIGNED,
        None,
    ),
    "integers cast": (
        "a = Cast<to = 1>(image) t = Div(a, k)",
        {"k": number(255)},
        "uint8[1,3,8,8] image",
        PIXELS,
        None,
    ),
    "resized before, padded behind": (
        'r = Resize<mode = "linear">(image, , scales) a = Div(r, k) t = Pad(a, pads)',
        {"scales": np.float32([1, 1, 2, 2]), "k": number(255), "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1])},
        FIRST,
        PIXELS,
        None,
    ),
    "between quantisers": (
        QDQ + " t = Div(p, k)",
        {"s": number(1), "z": np.uint8(0), "k": number(255)},
        FIRST,
        PIXELS,
        None,
    ),
    "what a quantiser was calibrated with, as TFLite has it": (
        "p = DequantizeLinear(image, s, z) t = Identity(p)",
        {"s": number(1 / 127.5), "z": np.uint8(127)},
        "uint8[1,3,8,8] image",
        PIXELS,
        None,
    ),
    "int8 of -1..1": (
        "t = DequantizeLinear(image, s, z)",
        {"s": number(1 / 128), "z": np.int8(0)},
        "int8[1,3,8,8] image",
        (-128, 127),
        None,
    ),
    "int8 of 0..1": (
        "t = DequantizeLinear(image, s, z)",
        {"s": number(1 / 255), "z": np.int8(-128)},
        "int8[1,3,8,8] image",
        (-128, 127),
        None,
    ),
    "a kernel of one pixel for each channel": (
        "t = Conv<group = 3>(image, k, b)",
        {"k": np.full((3, 1, 1, 1), 1 / 127.5, np.float32), "b": row(-1, -1, -1)},
        FIRST,
        PIXELS,
        None,
    ),
    "a kernel of one pixel that swaps the channels": (
        "t = Conv(image, k, b)",
        {"k": np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1).copy(), "b": -row(*CAFFE)},
        FIRST,
        PIXELS,
        "RGB",
    ),
    "channels reversed by Gather, then Caffe's means": (
        "a = Gather<axis = 3>(image, back) s = Sub(a, m)" + TO_FIRST,
        {"back": np.int64([2, 1, 0]), "m": row(*CAFFE)},
        LAST,
        PIXELS,
        "RGB",
    ),
    "channels reversed by Slice, then Caffe's means": (
        "a = Slice(image, from, to, axis, step) s = Sub(a, m)" + TO_FIRST,
        {"from": np.int64([-1]), "to": np.int64([-9]), "axis": np.int64([3]), "step": np.int64([-1]), "m": row(*CAFFE)},
        LAST,
        PIXELS,
        "RGB",
    ),
    "channels split, swapped and joined": (
        "r, g, b = Split<axis = 1>(image) a = Concat<axis = 1>(b, g, r) t = Sub(a, m)",
        {"m": column(*CAFFE)},
        FIRST,
        PIXELS,
        "RGB",
    ),
    "each channel by itself": (
        "r = Gather<axis = 1>(image, i0) g = Gather<axis = 1>(image, i1) b = Gather<axis = 1>(image, i2) "
        "ra = Unsqueeze(r, one) rs = Sub(ra, rm) ga = Unsqueeze(g, one) gs = Sub(ga, gm) ba = Unsqueeze(b, one) "
        "bs = Sub(ba, bm) t = Concat<axis = 1>(rs, gs, bs)",
        {
            "i0": np.int64(0),
            "i1": np.int64(1),
            "i2": np.int64(2),
            "one": np.int64([1]),
            "rm": number(123.68),
            "gm": number(116.779),
            "bm": number(103.939),
        },
        FIRST,
        PIXELS,
        "RGB",
    ),
    "statistics of pixels that a BatchNormalization learned": (
        BATCH_NORM,
        {"g": row(1.3, 0.7, 0.2), "b": row(-1, 0.5, 3), "m": row(120, 113, 101), "v": row(3600, 3300, 3500)},
        FIRST,
        PIXELS,
        None,
    ),
    "cut off at 0 and 255 first": (
        "a = Clip(image, zero, white) t = Div(a, white)",
        {"zero": number(0), "white": number(255)},
        FIRST,
        PIXELS,
        None,
    ),
}
"""Nodes from the picture to t, constants, the input, and what is proved: values of black and white, and the order."""


@pytest.mark.parametrize("case", PROOFS)
def test_a_normalisation_in_the_graph_proves_the_values_of_the_picture(case):
    body, weights, inputs, (low, high), order = PROOFS[case]
    assert proved(body, weights, inputs) == InputValues(low, high, order)


NOTHING = {
    "no arithmetic": ("t = Identity(image)", {}, FIRST),
    "a learned scale": (
        "a = Mul(image, k) t = Add(a, b)",
        {"k": column(1.4, 0.7, 2), "b": column(0.2, -0.3, 0)},
        FIRST,
    ),
    "a learned scale that might be the mean and deviation of 0..1": (
        "a = Mul(image, k) t = Add(a, b)",
        {"k": column(3.1217, 4.3301, 3.8713), "b": column(-1.4411, -1.6932, -1.2171)},
        FIRST,
    ),
    "a learned scale for all channels that might be so": (
        "a = Add(image, b) t = Mul(a, k)",
        {"k": number(3.121712), "b": number(-0.441138)},
        FIRST,
    ),
    "statistics of bright pictures in -1..1, written out": (
        STANDARD,
        {"m": column(0.612345, 0.571234, 0.634561), "s": column(0.341237, 0.331239, 0.352341)},
        FIRST,
    ),
    "a scale of 1/2": ("t = Mul(image, k)", {"k": number(0.5)}, FIRST),
    "ImageNet's values to -1..1, as torchvision's Inception": (
        "a = Mul(image, k) t = Add(a, b)",
        {"k": column(0.458, 0.448, 0.45), "b": column(-0.03, -0.088, -0.188)},
        FIRST,
    ),
    "a scaling that expects -1..1": (
        STANDARD,
        {"m": column(-0.03, -0.088, -0.188), "s": column(0.458, 0.448, 0.45)},
        FIRST,
    ),
    "only one channel": (
        "a = Mul(image, k)  t = Identity(a)",
        {"k": column(1 / 255, 1, 1)},
        FIRST,
    ),
    "a mean per place": ("t = Sub(image, m)", {"m": np.full((3, 8, 8), 120, np.float32)}, FIRST),
    "the picture's own mean": ("m = ReduceMean<axes = [2, 3]>(image) t = Sub(image, m)", {}, FIRST),
    "another use that has no normalisation": (
        "n = Div(image, k) c = Conv(image, w) d = Conv(n, w) e = Add(c, d) t = Slice(e, from, to, axis)",
        {"k": number(255), "from": np.int64([0]), "to": np.int64([3]), "axis": np.int64([1])},
        FIRST,
    ),
    "two branches that disagree": (
        "n = Div(image, k) m = Sub(image, half) o = Div(m, half) c = Conv(n, w) d = Conv(o, w) e = Add(c, d) "
        "t = Slice(e, from, to, axis)",
        {"k": number(255), "half": number(0.5), "from": np.int64([0]), "to": np.int64([3]), "axis": np.int64([1])},
        FIRST,
    ),
    "statistics of values that are normalised already": (
        BATCH_NORM,
        {"g": row(3, 3, 3), "b": row(-1, -1, -1), "m": row(0.44, 0.41, 0.5), "v": row(0.2, 0.2, 0.2)},
        FIRST,
    ),
    "a kernel that mixes the channels": (
        "t = Conv(image, k)",
        {"k": np.full((3, 3, 1, 1), 1 / 765, np.float32)},
        FIRST,
    ),
    "a kernel that looks around": (
        "t = Conv<group = 3, pads = [1, 1, 1, 1]>(image, k)",
        {"k": np.full((3, 1, 3, 3), 1 / 2295, np.float32)},
        FIRST,
    ),
    "numbers that are not finite": (
        "t = Conv<group = 3>(image, k, b)",
        {"k": np.ones((3, 1, 1, 1), np.float32), "b": row(np.nan, -120, -120)},
        FIRST,
    ),
    "a bound that is no number": (
        "a = Clip(image, bound, white) t = Div(a, white)",
        {"bound": number(np.nan), "white": number(255)},
        FIRST,
    ),
    "statistics without any variance": (
        "t = BatchNormalization<epsilon = 0.0>(image, g, b, m, v)",
        {"g": row(1, 1, 1), "b": row(0, 0, 0), "m": row(120, 120, 120), "v": row(0, 0, 0)},
        FIRST,
    ),
    "a factor beyond float32": ("a = Mul(image, k) t = Mul(a, k)", {"k": number(1e38)}, FIRST),
    "a range that a quantiser was calibrated with": (
        "t = DequantizeLinear(image, s, z)",
        {"s": number(0.0186), "z": np.uint8(114)},
        "uint8[1,3,8,8] image",
    ),
    "integers of another scale than the quantiser's": (
        "q = QuantizeLinear(image, s, z) t = DequantizeLinear(q, k, z)",
        {"s": number(1), "k": number(1 / 255), "z": np.uint8(0)},
        FIRST,
    ),
    "cut off at 1, and divided by 255 then": (
        "a = Clip(image, zero, one) t = Div(a, k)",
        {"zero": number(0), "one": number(1), "k": number(255)},
        FIRST,
    ),
    "integers of 16 bits": (
        "a = Cast<to = 1>(image) t = Div(a, k)",
        {"k": number(65535)},
        "uint16[1,3,8,8] image",
    ),
    "not affine": ("a = Sqrt(image) t = Div(a, k)", {"k": number(255)}, FIRST),
    "rounded": ("a = Cast<to = 6>(image) b = Cast<to = 1>(a) t = Div(b, k)", {"k": number(255)}, FIRST),
}
"""Nodes from the picture to t, constants and the input, where nothing is proved."""


@pytest.mark.parametrize("case", NOTHING)
def test_what_may_have_another_reason_proves_nothing(case):
    body, weights, inputs = NOTHING[case]
    assert proved(body, weights, inputs) is None


def test_the_shape_and_an_output_of_the_picture_are_no_uses():
    """Its shape tells nothing of its values; a picture that comes out again is fed to no network."""
    body = "shape = Shape(image) r = Reshape(image, shape) t = Div(r, k) copy = Identity(image)"
    outputs = "float[1,?,?,?] y, float[1,3,8,8] copy"
    assert proved(body, {"k": number(255)}, outputs=outputs) == InputValues(0, 255)


def test_nodes_that_no_output_depends_on_do_not_count():
    assert proved("unused = Conv(image, w) t = Div(image, k)", {"k": number(255)}) == InputValues(0, 255)


def test_a_branch_of_a_condition_counts_as_a_use():
    body = (
        "n = Div(image, k) z = If(flag) <then_branch = g1 () => (float[1,3,8,8] o1) { o1 = Identity(image) },"
        " else_branch = g2 () => (float[1,3,8,8] o2) { o2 = Identity(n) }> t = Identity(z)"
    )
    assert proved(body, {"k": number(255)}, inputs=f"{FIRST}, bool flag") is None


def test_grey_pictures_keep_their_scale_through_any_reshape():
    """tf2onnx writes Reshape in place of Transpose for one channel."""
    body = "a = Div(image, k) t = Reshape(a, shape)"
    weights = {"k": number(255), "shape": np.int64([1, 1, 8, 8])}
    assert proved(body, weights, "float[1,8,8,1] image", channels=1) == InputValues(0, 255)


def test_a_grey_picture_that_is_repeated_may_have_three_means():
    body = "e = Expand(image, shape) a = Sub(e, m) t = Div(a, s)"
    weights = {"shape": np.int64([1, 3, 8, 8]), "m": column(*IMAGENET["mean"]), "s": column(*IMAGENET["std"])}
    assert proved(body, weights, "float[1,1,8,8] image") == InputValues(0, 1)


def test_half_precision_is_enough():
    body, dtype = "a = Mul(image, k) t = Sub(a, one)", np.float16
    everything = {"w": np.ones((4, 3, 3, 3), dtype), "k": np.array(1 / 127.5, dtype), "one": np.array(1, dtype)}
    model = build(f"{body} {NETWORK}", everything, inputs=f"float16{FIRST[5:]}", outputs="float16[1,?,?,?] y")
    assert input_values(prepare(model), "image") == InputValues(0, 255)


def test_the_scaling_is_told_channel_by_channel():
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "m": column(1, 2, 3), "back": np.int64([2, 1, 0])}
    body = f"a = Gather<axis = 1>(image, back) b = Neg(a) t = Add(b, m) {NETWORK}"
    (at,) = scaling(prepare(build(body, weights, inputs=FIRST, outputs="float[1,?,?,?] y")), "image")
    assert at.axis == 1
    np.testing.assert_array_equal(at.factor, [-1, -1, -1])
    np.testing.assert_array_equal(at.shift, [1, 2, 3])
    np.testing.assert_array_equal(at.source, [2, 1, 0])


@pytest.mark.parametrize("inputs", ["float[1,3] image", "float[1,3,8] image", "float[1,16,8,16] image"])
def test_an_input_that_is_no_picture_proves_nothing(inputs):
    model = build("y = Relu(image)", inputs=inputs, outputs=inputs.replace("image", "y"))
    assert input_values(prepare(model), "image") is None
