"""This module holds what is known of each operator: one row per operator, which every pass asks.

A pass never lists operators by name; it asks `traits(node)` for a fact. An operator without a row, or one of another
domain with the name of a known one, is `UNKNOWN`: the defaults of `OpTraits` (op_facts.py) are the safe answers. A new
operator is one row here, one gradient rule (or `zero_derivative`) and one row in the table of the rules' tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, pi
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.op_facts import UNKNOWN, Affine, AxisEffect, Factors, OpTraits, Values
from onnx_xcam.surgery.ir.protos import MICROSOFT, STANDARD

_UNIT, _SIGNED_UNIT, _NON_NEGATIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, inf)
_COPIED, _RESHAPED, _REARRANGED = Values.COPIED, Values.RESHAPED, Values.REARRANGED
_REPEATED, _PICKED = Values.REPEATED, Values.PICKED
_HOMOGENEOUS, _MULTILINEAR, _PIECEWISE = Affine.HOMOGENEOUS, Affine.MULTILINEAR, Affine.PIECEWISE


def _op(axes: AxisEffect = "ended", **facts: Any) -> OpTraits:
    """Return the row of a known operator: without poles, foldable and repeatable unless the row says otherwise."""
    return OpTraits(axes, **{"has_pole": False, "foldable": True, "repeatable": True, **facts})


def _elementwise(**facts: Any) -> OpTraits:
    """Return the row of an operator that works element by element on all inputs, broadcast against each other."""
    return _op("kept", elementwise="all", same_place=True, **facts)


def _elementwise_in_first(**facts: Any) -> OpTraits:
    """Return the row of an operator that works element by element on its first input."""
    return _op("first kept", elementwise="first", same_place=True, differentiable=1, **facts)


def _moving(axes: AxisEffect, values: Values, **facts: Any) -> OpTraits:
    """Return the row of an operator that moves elements of its first input."""
    return _op(axes, values=values, differentiable=1, linear=True, **facts)


def _reduction(**facts: Any) -> OpTraits:
    """Return the row of a reduction along axes."""
    return _op("dropped", differentiable=1, **facts)


def _pool(**facts: Any) -> OpTraits:
    """Return the row of a pool over windows of images."""
    return _op("windowed", reads_images=True, affine=_HOMOGENEOUS, **facts)


def _product(axes: AxisEffect, **facts: Any) -> OpTraits:
    """Return the row of a product with weights."""
    return _op(axes, **{"affine": _MULTILINEAR, "linear": True, "weighted": True, "repeatable": False, **facts})


def _integer_product(*factors: int, weights_at: tuple[int, ...], **facts: Any) -> OpTraits:
    """Return the row of a product of integers; `factors` are the inputs with factors and zero points, or none."""
    places = Factors(*factors) if factors else None
    return _product(
        "ended", affine=Affine.NONE, linear=False, on_integers=True, factors=places, weights_at=weights_at, **facts
    )


_CONTROL_FLOW = "control flow"
_RECURRENT = "recurrent"
_REGIONS = "regions"
_NO_FORMULA = "no formula in standard operators"
_NO_VISION = "not in vision models"
_SEQUENCES = "sequences, of which known ones are resolved beforehand"

_STANDARD: Mapping[str, OpTraits] = {
    # --- activations
    "Relu": _elementwise(bounds=_NON_NEGATIVE, affine=_HOMOGENEOUS, left_to_quantiser=True),
    "LeakyRelu": _elementwise(affine=_HOMOGENEOUS),
    "PRelu": _elementwise(affine=_HOMOGENEOUS),
    "ThresholdedRelu": _elementwise(affine=_HOMOGENEOUS),
    "Shrink": _elementwise(affine=_PIECEWISE),
    "Clip": _elementwise(clips=True, differentiable=1, affine=_PIECEWISE, left_to_quantiser=True),
    "Sigmoid": _elementwise(bounds=_UNIT),
    "HardSigmoid": _elementwise(bounds=_UNIT, affine=_PIECEWISE),
    "Softplus": _elementwise(bounds=_NON_NEGATIVE),
    "Softsign": _elementwise(bounds=_SIGNED_UNIT),
    "Tanh": _elementwise(bounds=_SIGNED_UNIT),
    "Celu": _elementwise(),
    "Elu": _elementwise(),
    "Gelu": _elementwise(),
    "HardSwish": _elementwise(),
    "Mish": _elementwise(),
    "Selu": _elementwise(),
    "Swish": _elementwise(),
    "SwiGLU": _op("first kept"),
    "Softmax": _op("kept", along_axis=True, default_axis=-1, bounds=_UNIT),
    "LogSoftmax": _op("kept", along_axis=True, default_axis=-1),
    "Hardmax": _op("kept", along_axis=True, default_axis=-1, bounds=_UNIT, steps=True, zero_derivative=True),
    # --- element by element
    "Identity": _elementwise(
        linear=True, values=_COPIED, differentiable=1, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True
    ),
    "Dropout": _elementwise_in_first(values=_COPIED, affine=_HOMOGENEOUS, foldable=False),
    "Cast": _elementwise(
        casts=True, differentiable=1, affine=_HOMOGENEOUS, non_negative_of_such=True, stores_any_type=True
    ),
    "CastLike": _elementwise(
        casts=True, differentiable=1, passive=(1,), affine=_HOMOGENEOUS, non_negative_of_such=True, stores_any_type=True
    ),
    "BitCast": _op("kept"),
    "Neg": _elementwise(affine=_HOMOGENEOUS, linear=True),
    "Abs": _elementwise(bounds=_NON_NEGATIVE, affine=_HOMOGENEOUS),
    "Exp": _elementwise(bounds=_NON_NEGATIVE),
    "Log": _elementwise(has_pole=True),
    "Sqrt": _elementwise(bounds=_NON_NEGATIVE),
    "Reciprocal": _elementwise(has_pole=True),
    "Erf": _elementwise(bounds=_SIGNED_UNIT),
    "Sin": _elementwise(bounds=_SIGNED_UNIT),
    "Cos": _elementwise(bounds=_SIGNED_UNIT),
    "Tan": _elementwise(),
    "Asin": _elementwise(),
    "Acos": _elementwise(bounds=(0.0, pi)),
    "Atan": _elementwise(),
    "Sinh": _elementwise(),
    "Cosh": _elementwise(bounds=(1.0, inf)),
    "Asinh": _elementwise(),
    "Acosh": _elementwise(bounds=_NON_NEGATIVE),
    "Atanh": _elementwise(),
    "Add": _elementwise(affine=_PIECEWISE, non_negative_of_such=True),
    "Sub": _elementwise(affine=_PIECEWISE),
    "Mul": _elementwise(affine=_MULTILINEAR, linear=True, non_negative_of_such=True),
    "Div": _elementwise(affine=_MULTILINEAR, linear=True, has_pole=True),
    "Pow": _elementwise(has_pole=True),
    "Mod": _elementwise(),
    "Sum": _elementwise(affine=_PIECEWISE, non_negative_of_such=True),
    "Mean": _elementwise(affine=_PIECEWISE, non_negative_of_such=True),
    "Max": _elementwise(affine=_PIECEWISE, non_negative_of_such=True),
    "Min": _elementwise(affine=_PIECEWISE, non_negative_of_such=True),
    "Where": _elementwise(affine=_PIECEWISE),
    # --- steps, comparisons, bits
    "Ceil": _elementwise(steps=True, zero_derivative=True),
    "Floor": _elementwise(steps=True, zero_derivative=True),
    "Round": _elementwise(steps=True, zero_derivative=True),
    "Sign": _elementwise(steps=True, zero_derivative=True),
    "And": _elementwise(zero_derivative=True),
    "Equal": _elementwise(zero_derivative=True),
    "Greater": _elementwise(zero_derivative=True),
    "GreaterOrEqual": _elementwise(zero_derivative=True),
    "IsInf": _elementwise(zero_derivative=True),
    "IsNaN": _elementwise(zero_derivative=True),
    "Less": _elementwise(zero_derivative=True),
    "LessOrEqual": _elementwise(zero_derivative=True),
    "Not": _elementwise(zero_derivative=True),
    "Or": _elementwise(zero_derivative=True),
    "Xor": _elementwise(zero_derivative=True),
    "BitShift": _elementwise(),
    "BitwiseAnd": _elementwise(),
    "BitwiseNot": _elementwise(),
    "BitwiseOr": _elementwise(),
    "BitwiseXor": _elementwise(),
    # --- quantisation and products of integers
    "QuantizeLinear": _elementwise_in_first(
        quantises=True, on_integers=True, weights_at=(0,), stores_any_type=True, typed_by=2
    ),
    "DequantizeLinear": _elementwise_in_first(
        dequantises=True, on_integers=True, weights_at=(0,), stores_any_type=True, typed_by=1
    ),
    "DynamicQuantizeLinear": _op(
        "first kept", quantises=True, on_integers=True, scaled_by_run=True, differentiable=1, detached=(1, 2)
    ),
    "ConvInteger": _integer_product(0, 2, 1, 3, weights_at=(0, 1), foldable=False),
    "MatMulInteger": _integer_product(0, 2, 1, 3, weights_at=(0, 1)),
    "QLinearConv": _integer_product(
        0, 2, 3, 5, weights_at=(0, 3, 8), reads_images=True, foldable=False, requantises=True
    ),
    "QLinearMatMul": _integer_product(0, 2, 3, 5, weights_at=(0, 3), requantises=True),
    # --- products
    "MatMul": _product("matmul", runs_on_integers=True),
    "Gemm": _product("gemm", runs_on_integers=True),
    "Einsum": _product("einsum", foldable=False),
    "Conv": _product("windowed", reads_images=True, runs_on_integers=True, foldable=False),
    "ConvTranspose": _product("image", reads_images=True, differentiable=1, foldable=False),
    "DeformConv": _product(
        "windowed",
        reads_images=True,
        affine=Affine.NONE,
        linear=False,
        coordinates=(2,),
        foldable=False,
        without_gradient=_REGIONS,
    ),
    "DFT": _op("spectrum", linear=True, differentiable=1, foldable=False),
    "STFT": _op("ended", linear=True, differentiable=1, foldable=False),
    "Det": _op(foldable=False, without_gradient=_NO_FORMULA),
    # --- recurrent, attention
    "GRU": _product(
        "ended", affine=Affine.NONE, linear=False, recurrent=True, foldable=False, without_gradient=_RECURRENT
    ),
    "LSTM": _product(
        "ended", affine=Affine.NONE, linear=False, recurrent=True, foldable=False, without_gradient=_RECURRENT
    ),
    "RNN": _product(
        "ended", affine=Affine.NONE, linear=False, recurrent=True, foldable=False, without_gradient=_RECURRENT
    ),
    "Attention": _op("first kept", foldable=False),
    "CausalConvWithState": _op("first kept"),
    "LinearAttention": _op("first kept"),
    "RotaryEmbedding": _op("first kept", foldable=False),
    # --- pooling
    "AveragePool": _pool(linear=True, between=True, foldable=False),
    "GlobalAveragePool": _pool(linear=True, between=True),
    "GlobalLpPool": _pool(bounds=_NON_NEGATIVE),
    "GlobalMaxPool": _pool(between=True),
    "LpPool": _pool(bounds=_NON_NEGATIVE, foldable=False),
    "MaxPool": _pool(between=True, passes_quantisers=True, foldable=False),
    "MaxUnpool": _op("first kept", differentiable=1, foldable=False),
    "Col2Im": _op(differentiable=1, foldable=False),
    "MaxRoiPool": _op("regions", reads_images=True, coordinates=(1,), foldable=False, without_gradient=_REGIONS),
    "RoiAlign": _op(
        "regions",
        reads_images=True,
        between=True,
        coordinates=(1, 2),
        held=(1, 2),
        differentiable=1,
        affine=_HOMOGENEOUS,
        foldable=False,
    ),
    # --- normalisation
    "BatchNormalization": _op("per channel", reads_images=True, same_place=True, differentiable=1, affine=_PIECEWISE),
    "GroupNormalization": _op("first kept", typed_by=0),
    "InstanceNormalization": _op("per channel", reads_images=True),
    "LRN": _op("image", reads_images=True, foldable=False),
    "LayerNormalization": _op("first kept", along_axis=True, default_axis=-1),
    "LpNormalization": _op("kept", along_axis=True, default_axis=-1),
    "MeanVarianceNormalization": _op("kept", typed_by=0),
    "RMSNormalization": _op("first kept", along_axis=True, default_axis=-1),
    "SimplifiedLayerNormalization": _op("first kept", along_axis=True, default_axis=-1),
    # --- reductions and running sums
    "ArgMax": _op("dropped", steps=True, zero_derivative=True),
    "ArgMin": _op("dropped", steps=True, zero_derivative=True),
    "ReduceL1": _reduction(bounds=_NON_NEGATIVE, affine=_HOMOGENEOUS),
    "ReduceL2": _reduction(bounds=_NON_NEGATIVE, affine=_HOMOGENEOUS),
    "ReduceLogSum": _reduction(),
    "ReduceLogSumExp": _reduction(),
    "ReduceMax": _reduction(between=True, affine=_HOMOGENEOUS),
    "ReduceMean": _reduction(linear=True, between=True, affine=_HOMOGENEOUS),
    "ReduceMin": _reduction(between=True, affine=_HOMOGENEOUS),
    "ReduceProd": _reduction(non_negative_of_such=True),
    "ReduceSum": _reduction(linear=True, affine=_HOMOGENEOUS, non_negative_of_such=True),
    "ReduceSumSquare": _reduction(bounds=_NON_NEGATIVE),
    "CumSum": _op("kept", linear=True, differentiable=1, affine=_HOMOGENEOUS, non_negative_of_such=True),
    "CumProd": _op("kept"),
    # --- movement
    "Flatten": _moving("reshaped", _RESHAPED, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True),
    "Reshape": _moving("reshaped", _RESHAPED, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True),
    "Squeeze": _moving("dropped", _RESHAPED, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True),
    "Unsqueeze": _moving("unsqueezed", _RESHAPED, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True),
    "Transpose": _moving("transposed", _REARRANGED, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True),
    "DepthToSpace": _moving("image", _REARRANGED, reads_images=True, affine=_HOMOGENEOUS),
    "SpaceToDepth": _moving("image", _REARRANGED, reads_images=True, affine=_HOMOGENEOUS),
    "ReverseSequence": _moving("reversed", _REARRANGED, affine=_HOMOGENEOUS),
    "Expand": _moving("kept", _REPEATED, same_place=True, affine=_HOMOGENEOUS, grows=True, stores_any_type=True),
    "Tile": _moving("tiled", _REPEATED, affine=_HOMOGENEOUS, grows=True),
    "Gather": _moving("gathered", _PICKED, affine=_HOMOGENEOUS, stores_any_type=True),
    "GatherElements": _moving("reordered", _PICKED, default_axis=0, affine=_HOMOGENEOUS),
    "GatherND": _moving("ended", _PICKED, affine=_HOMOGENEOUS),
    "Compress": _moving("ended", _PICKED),
    "Slice": _moving("cut", _PICKED, affine=_HOMOGENEOUS, passes_quantisers=True, stores_any_type=True),
    "Split": _moving(
        *("cut", _PICKED),
        along_axis=True,
        default_axis=0,
        affine=_HOMOGENEOUS,
        passes_quantisers=True,
        stores_any_type=True,
    ),
    "Concat": _op("concatenated", along_axis=True, affine=_PIECEWISE, non_negative_of_such=True, stores_any_type=True),
    "TopK": _op("reordered", along_axis=True, default_axis=-1, differentiable=1),
    "Trilu": _op("kept", linear=True, differentiable=1, affine=_HOMOGENEOUS, non_negative_of_such=True),
    "Pad": _op("padded", linear=True, differentiable=1, weights_at=(0,), grows=True),
    "CenterCropPad": _op("centred", foldable=False),
    "Scatter": _op("scattered"),
    "ScatterElements": _op("scattered"),
    "ScatterND": _op("scattered"),
    "TensorScatter": _op(without_gradient=_NO_VISION),
    "Unique": _op(without_gradient=_NO_VISION),
    # --- sampling
    "GridSample": _op("sampled", reads_images=True, coordinates=(1,), foldable=False),
    "AffineGrid": _op("made", differentiable=1, foldable=False),
    "Resize": _op("rescaled", linear=True, differentiable=1, affine=_HOMOGENEOUS, weights_at=(0,), foldable=False),
    "Upsample": _op("rescaled", reads_images=True, weights_at=(0,), foldable=False),
    # --- made of numbers, of shapes, or at random
    "Constant": _op("made", stores_any_type=True),
    "ConstantOfShape": _op("made", zero_derivative=True, grows=True, stores_any_type=True),
    "EyeLike": _op("made", zero_derivative=True, grows=True),
    "OneHot": _op(passive=(0, 1), grows=True),
    "Range": _op("made", grows=True),
    "Shape": _op("made", zero_derivative=True, stores_any_type=True),
    "Size": _op("made", zero_derivative=True),
    "NonZero": _op(zero_derivative=True),
    "BlackmanWindow": _op("made", foldable=False),
    "HammingWindow": _op("made", foldable=False),
    "HannWindow": _op("made", foldable=False),
    "MelWeightMatrix": _op("made", foldable=False, without_gradient=_NO_VISION),
    "Bernoulli": _elementwise(zero_derivative=True, foldable=False),
    "Multinomial": _op(zero_derivative=True, foldable=False),
    "RandomNormal": _op("made", foldable=False),
    "RandomNormalLike": _op("made", zero_derivative=True, foldable=False),
    "RandomUniform": _op("made", foldable=False),
    "RandomUniformLike": _op("made", zero_derivative=True, foldable=False),
    # --- control flow, sequences, optional tensors
    "If": _op("branched", control_flow=True, stores_any_type=True, foldable=False, repeatable=False),
    "Loop": _op(
        control_flow=True, stores_any_type=True, foldable=False, repeatable=False, without_gradient=_CONTROL_FLOW
    ),
    "Scan": _op(
        control_flow=True, stores_any_type=True, foldable=False, repeatable=False, without_gradient=_CONTROL_FLOW
    ),
    "SequenceMap": _op(control_flow=True, foldable=False, repeatable=False),
    "ConcatFromSequence": _op(without_gradient=_SEQUENCES),
    "Optional": _op("kept", foldable=False, without_gradient=_SEQUENCES),
    "OptionalGetElement": _op("kept", values=_COPIED, without_gradient=_SEQUENCES),
    "OptionalHasElement": _op("made"),
    "SequenceAt": _op(without_gradient=_SEQUENCES),
    "SequenceConstruct": _op(foldable=False, without_gradient=_SEQUENCES),
    "SequenceEmpty": _op("made", foldable=False),
    "SequenceErase": _op(without_gradient=_SEQUENCES),
    "SequenceInsert": _op(without_gradient=_SEQUENCES),
    "SequenceLength": _op("made"),
    "SplitToSequence": _op(without_gradient=_SEQUENCES),
    # --- detection, losses, files, text
    "NonMaxSuppression": _op(picks_boxes=True, foldable=False),
    "NegativeLogLikelihoodLoss": _op(),
    "SoftmaxCrossEntropyLoss": _op(),
    "ImageDecoder": _op(foldable=False),
    "RegexFullMatch": _op(foldable=False),
    "StringConcat": _op(foldable=False),
    "StringNormalizer": _op(foldable=False),
    "StringSplit": _op(foldable=False),
    "TfIdfVectorizer": _op(foldable=False),
}
"""This table has the standard's operators of every version, and those that ONNX Runtime writes into its domain."""

_MICROSOFT: Mapping[str, OpTraits] = {
    "QuantizeLinear": _STANDARD["QuantizeLinear"],
    "DequantizeLinear": _STANDARD["DequantizeLinear"],
    # --- the standard's, before the standard had them
    "GatherND": _STANDARD["GatherND"],
    "GridSample": _STANDARD["GridSample"],
    "Pad": _STANDARD["Pad"],
    "Range": _STANDARD["Range"],
    "SimplifiedLayerNormalization": _STANDARD["SimplifiedLayerNormalization"],
    "Trilu": _STANDARD["Trilu"],
    "Gelu": _elementwise(),
    "QuickGelu": _elementwise(),
    "FastGelu": _elementwise(),
    "BitmaskDropout": _elementwise_in_first(values=_COPIED, foldable=False),
    "ExpandDims": _moving("ended", _RESHAPED),
    # --- fused: lowered to the standard's before anything asks for their axes or gradients
    "Attention": _op(foldable=False),
    "BiasAdd": _op(),
    "BiasGelu": _op(),
    "BiasSoftmax": _op(),
    "BiasSplitGelu": _op(),
    "FusedConv": _product("ended", affine=Affine.NONE, linear=False, foldable=False),
    "FusedGemm": _product("ended", affine=Affine.NONE, linear=False),
    "FusedMatMul": _product("ended", affine=Affine.NONE, linear=False),
    "FusedMatMulActivation": _product("ended", affine=Affine.NONE, linear=False),
    "GemmFastGelu": _product("ended", affine=Affine.NONE, linear=False),
    "GroupNorm": _op(),
    "MultiHeadAttention": _op(foldable=False),
    "NhwcConv": _product("ended", affine=Affine.NONE, linear=False, foldable=False),
    "NhwcFusedConv": _product("ended", affine=Affine.NONE, linear=False, foldable=False),
    "NhwcMaxPool": _op(between=True, foldable=False),
    "SkipGroupNorm": _op(),
    "SkipLayerNormalization": _op(),
    "SkipSimplifiedLayerNormalization": _op(),
    "TransposeMatMul": _product("ended", affine=Affine.NONE, linear=False),
    # --- on integers
    "DynamicQuantizeLSTM": _integer_product(
        weights_at=(0, 1, 2, 3, 7), recurrent=True, scaled_by_run=True, foldable=False
    ),
    "DynamicQuantizeMatMul": _integer_product(0, -1, 1, 3, weights_at=(0, 1, 4), scaled_by_run=True),
    "MatMulBnb4": _integer_product(weights_at=(0, 1)),
    "MatMulIntegerToFloat": _integer_product(0, 4, 1, 5, weights_at=(0, 1, 6)),
    "MatMulNBits": _integer_product(weights_at=(0, 1)),
    "QAttention": _integer_product(0, 6, 1, 7, weights_at=(0, 1, 2)),
    "QGemm": _integer_product(0, 2, 3, 5, weights_at=(0, 3, 6), requantises=True),
    "QLinearAdd": _op(requantises=True, on_integers=True, weights_at=(0, 3)),
    "QLinearAveragePool": _op(requantises=True, on_integers=True, foldable=False),
    "QLinearConcat": _op(requantises=True, on_integers=True),
    "QLinearConv": _integer_product(
        0, 2, 3, 5, weights_at=(0, 3, 8), reads_images=True, foldable=False, requantises=True
    ),
    "QLinearGlobalAveragePool": _op(requantises=True, on_integers=True),
    "QLinearLeakyRelu": _op(requantises=True, on_integers=True),
    "QLinearMul": _op(requantises=True, on_integers=True, weights_at=(0, 3)),
    "QLinearSigmoid": _op(requantises=True, on_integers=True),
    "QLinearSoftmax": _op(requantises=True, on_integers=True),
    "QLinearWhere": _op(requantises=True, on_integers=True),
}
"""This table has ONNX Runtime's own operators: those that are lowered, and others of which a fact is needed."""

_BOXES = OpTraits(picks_boxes=True)
_ELSEWHERE: Mapping[str, OpTraits] = {
    "BatchedNMSDynamic_TRT": _BOXES,
    "BatchedNMS_TRT": _BOXES,
    "EfficientNMS_TRT": _BOXES,
}
"""This table has plugins of other runtimes, in whatever domain the exporter wrote."""

_BY_DOMAIN: Mapping[str | None, Mapping[str, OpTraits]] = {
    **{domain: {**_ELSEWHERE, **_STANDARD} for domain in (None, *STANDARD)},
    MICROSOFT: {**_ELSEWHERE, **_MICROSOFT},
}
"""This table maps a domain to the rows of its operators."""


def named(op: str, domain: str | None = "") -> OpTraits:
    """Return the row of an operator; `UNKNOWN` if there is none in its domain."""
    return _BY_DOMAIN.get(domain, _ELSEWHERE).get(op, UNKNOWN)


def traits(node: gs.Node) -> OpTraits:
    """Return the row of a node's operator; `UNKNOWN` if there is none in its domain."""
    return named(node.op, node.domain)


def proto_traits(node: onnx.NodeProto) -> OpTraits:
    """Return the row of the operator of a protobuf node; `UNKNOWN` if there is none in its domain."""
    return named(node.op_type, node.domain)
