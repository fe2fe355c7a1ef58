"""What every operator of the standard does to axes, one row for each group.

An operator that is not here leaves open where anything lies: that is the safe answer. A test wants a row for every
operator of the newest standard, so that each answer was given by someone.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx_xcam.surgery.axes import effects, image_effects
from onnx_xcam.surgery.axes.spread import Rule

WINDOWED = frozenset(
    ["Conv", "DeformConv", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
)
PER_PIXEL = frozenset({"BatchNormalization", "InstanceNormalization"})
IMAGES = frozenset({"ConvTranspose", "LRN", "DepthToSpace", "SpaceToDepth"})
SAMPLED = frozenset({"GridSample"})
WEIGHTED = frozenset({"MatMul", "Gemm", "Einsum"})

_ELEMENTWISE = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh Bernoulli BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast
    CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu
    Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""Each element is made of those in its own place, once the inputs are broadcast; no other is looked at."""
ELEMENTWISE_IN_THE_FIRST = frozenset({"DequantizeLinear", "Dropout", "QuantizeLinear"})
"""The same of the first input; the others say how."""

_ROWS: Mapping[Rule, str] = {
    image_effects.windowed: " ".join(WINDOWED),
    image_effects.per_pixel: " ".join(PER_PIXEL),
    image_effects.images: " ".join(IMAGES),
    image_effects.sampled: " ".join(SAMPLED),
    # Element by element, or within an axis without reordering it.
    effects.kept: f"""
        {_ELEMENTWISE}
        BitCast Expand Hardmax LogSoftmax LpNormalization MeanVarianceNormalization Softmax CumProd CumSum Trilu
        Optional OptionalGetElement""",
    effects.first_kept: f"""
        {" ".join(ELEMENTWISE_IN_THE_FIRST)}
        Attention CausalConvWithState DynamicQuantizeLinear GroupNormalization LayerNormalization LinearAttention
        MaxUnpool RMSNormalization RotaryEmbedding SwiGLU""",
    effects.squeezed: """
        ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceSumSquare Squeeze""",
    effects.reshaped: "Flatten Reshape",
    effects.transposed: "Transpose",
    effects.unsqueezed: "Unsqueeze",
    effects.taken_out: "Slice Split",
    effects.gathered: "Gather",
    effects.either: "If",
    effects.concatenated: "Concat",
    effects.padded_out: "Pad",
    effects.centred_out: "CenterCropPad",
    effects.rescaled: "Resize Upsample",
    effects.product: "Gemm MatMul",
    effects.einsum: "Einsum",
    effects.tiled: "Tile",
    effects.reversed_sequences: "ReverseSequence",
    effects.spectrum: "DFT",
    effects.along_axis(-1): "TopK",
    effects.along_axis(0): "GatherElements",
    effects.scattered: "Scatter ScatterElements ScatterND",
    # Nothing of a picture's places is in these.
    effects.made: """
        AffineGrid BlackmanWindow Constant ConstantOfShape EyeLike HammingWindow HannWindow MelWeightMatrix
        OptionalHasElement RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range SequenceEmpty
        SequenceLength Shape Size""",
    # Values are picked, sorted, counted, warped or handed through a program: they may lie anywhere. Operators on
    # integers are lowered to those on floats before anything looks at axes.
    effects.ended: """
        Col2Im Compress ConcatFromSequence ConvInteger Det GRU GatherND ImageDecoder LSTM Loop MatMulInteger
        MaxRoiPool Multinomial NegativeLogLikelihoodLoss NonMaxSuppression NonZero OneHot QLinearConv QLinearMatMul RNN
        RegexFullMatch RoiAlign STFT Scan SequenceAt SequenceConstruct SequenceErase SequenceInsert SequenceMap
        SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit TensorScatter TfIdfVectorizer
        Unique""",
}
EFFECTS: Mapping[str, Rule] = {op: rule for rule, ops in _ROWS.items() for op in ops.split()}
