"""Facts about operators stand in one table: elsewhere an operator is named only where that very operator is meant."""

from __future__ import annotations

import ast
from pathlib import Path

import onnx

import onnx_xcam
from onnx_xcam.surgery.ir import op_traits
from onnx_xcam.surgery.lowering import LOWERINGS

PACKAGE = Path(onnx_xcam.__file__).parent
OPERATORS = {schema.name for schema in onnx.defs.get_all_schemas_with_history()} | {op for _, op in LOWERINGS}
OPERATORS |= {*op_traits._STANDARD, *op_traits._MICROSOFT, *op_traits._ELSEWHERE}
TABLE = "surgery/ir/op_traits.py"
RULES = ("surgery/rules/", "surgery/lowering/")
"""Gradients and lowerings: one for each operator, registered under its name."""
WRITES = {"Node", "node", "_unary", "_with_numbers", "elementwise", "make_node", "one"}
"""Functions that add a node of the operator they are given."""

REVIEWED = {
    "common/operators.py": (
        "ConstantOfShape GRU MeanVarianceNormalization Mul Slice ThresholdedRelu",
        "what to export in place of an operator that ONNX has dropped",
    ),
    "explainer/probabilities.py": (
        "HardSigmoid LogSoftmax Sigmoid Softmax",
        "the final activation that a file's metadata names",
    ),
    "producers/dialects/mmdeploy.py": (
        "Pad Resize",
        "steps of another program that happen to have the same names",
    ),
    "producers/dialects/paddle_detection.py": (
        "Pad Resize",
        "steps of another program that happen to have the same names",
    ),
    "producers/dialects/paddle_seg.py": (
        "Resize",
        "steps of another program that happen to have the same names",
    ),
    "surgery/analysis/constant_folding.py": (
        "Constant ConstantOfShape Expand EyeLike OneHot Pad Range Shape Size Tile",
        "how large the result of each operator that grows is; attributes of Constant; what Shape and Size read",
    ),
    "surgery/analysis/ends.py": ("SequenceConstruct", "its inputs are the tensors of an output that is a sequence"),
    "surgery/analysis/integer_products.py": (
        "Constant Conv MatMul",
        "attributes of Constant; what ONNX Runtime does with float weights of each product",
    ),
    "surgery/analysis/peak_memory.py": ("TopK", "its K comes from a value"),
    "surgery/analysis/picked_positions.py": ("Gather Slice", "inputs and attributes that state the positions"),
    "surgery/analysis/prepare.py": ("STFT", "an attribute whose default onnx mistakes"),
    "surgery/analysis/symbolic_shapes.py": (
        "Add Cast Concat ConstantOfShape Div Equal Expand Gather Identity Mul Reshape Shape Slice Squeeze Sub Tile "
        "Unsqueeze Where",
        "how sizes are computed: a function for each operator",
    ),
    "surgery/analysis/value_ranges.py": ("Add Div Mul Sub", "how each moves a bound"),
    "surgery/autodiff/backward.py": ("Clip Relu", "the rectifiers of guided backpropagation"),
    "surgery/autodiff/composites.py": (
        "Add Concat Div Erf Gelu Mul Sigmoid Swish",
        "functions that are spelled out in several nodes",
    ),
    "surgery/axes/batch_independence.py": ("Constant Flatten", "attributes of Constant; the rank that Flatten makes"),
    "surgery/builder/facts.py": ("Div", "what an intention to undo a scale may become"),
    "surgery/builder/simplify.py": (
        "Add Cast Div Gather MatMul Mul Neg Shape Sub",
        "how a number passes each operator that is written: a function for each",
    ),
    "surgery/builder/values.py": (
        "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Squeeze Unsqueeze",
        "how nodes are written at each opset",
    ),
    "surgery/normalise/inline_if.py": ("If", "what is inlined"),
    "surgery/normalise/inline_sequences.py": (
        "ConcatFromSequence Identity Optional OptionalGetElement SequenceAt SequenceConstruct SequenceEmpty "
        "SequenceErase SequenceInsert SplitToSequence",
        "what each does with a sequence: a function for each operator",
    ),
    "surgery/normalise/normalise.py": ("If Resize Upsample", "what is inlined; an operator that changed its name"),
    "surgery/normalise/unsigned_activations.py": ("DequantizeLinear QuantizeLinear", "the pair that is rewritten"),
    "surgery/randomise.py": ("Constant", "its attribute"),
    "surgery/submodels/affine_terms.py": ("Div Einsum LayerNormalization", "which operands, and where the bias lies"),
    "surgery/submodels/masked.py": ("Shape Size", "lengths of the whole picture"),
    "surgery/targets/activation_patterns.py": (
        "Add Concat Div Exp HardSigmoid Hardmax Log LogSoftmax Mul Neg Reciprocal ReduceLogSumExp ReduceMax ReduceSum "
        "Sigmoid Softmax Sub",
        "final activations, as one operator or spelled out",
    ),
    "surgery/targets/class_names.py": (
        "ArrayFeatureExtractor CategoryMapper Gather LabelEncoder ZipMap",
        "where each has the names that it looks up",
    ),
    "surgery/targets/classification/recognise.py": ("HardSigmoid LogSoftmax Sigmoid Softmax", "final activations"),
    "surgery/targets/classification/refusals.py": (
        "BatchNormalization LayerNormalization Tanh",
        "what features end in and scores do not",
    ),
    "surgery/targets/default_layer.py": (
        "Attention AveragePool Softmax Transpose Where",
        "attention, as one operator or spelled out; pooling and lining up of tokens, as exporters write them",
    ),
    "surgery/targets/candidates/logits.py": (
        "Hardmax Log LogSoftmax Mul ReduceMax Softmax Sqrt TopK",
        "what detectors do to their scores last, one by one",
    ),
    "surgery/files/source.py": ("Constant", "its attribute"),
    "surgery/targets/detection/readings/level_maps.py": ("Mul", "distances times the stride of their level"),
    "surgery/targets/detection/readings/rows.py": ("Add", "classes that are counted from 1"),
    "surgery/targets/detection/scores.py": (
        "HardSigmoid Mul Sigmoid Softmax Sqrt",
        "activations, and products of probabilities, as detectors write them",
    ),
    "surgery/targets/detection/spans.py": (
        "Compress Concat Gather GatherElements GatherND ReduceMax ScatterND Slice Split TopK Transpose",
        "how columns pass each operator that joins, cuts or picks: a function for each",
    ),
    "surgery/targets/logits.py": (
        "Add ArgMax ArrayFeatureExtractor CategoryMapper Constant Div Gather Greater GreaterOrEqual LabelEncoder Log "
        "LogSoftmax Mul ReduceMax Round Softmax TopK ZipMap",
        "what classifiers do to their scores last, one by one",
    ),
    "surgery/targets/probabilities.py": (
        "Add ArgMax AveragePool BatchNormalization Clip Concat Div Exp GlobalAveragePool Hardmax LeakyRelu LogSoftmax "
        "Max Mean Min Mul Neg ReduceMax ReduceMean ReduceSum Relu Sigmoid Softmax Sub Sum TopK",
        "what keeps probabilities what they are, and what classifiers end in behind their last weights",
    ),
    "surgery/targets/unit_length.py": (
        "Add Clip Div LpNormalization Max Mul Pow Reciprocal ReduceL2 ReduceSum ReduceSumSquare Sqrt",
        "a length, spelled out",
    ),
    "surgery/targets/unused_inputs.py": ("If", "its condition"),
    "trials/products.py": (
        "Conv ConvInteger DynamicQuantizeMatMul MatMulInteger MatMulIntegerToFloat QAttention QGemm QLinearConv "
        "QLinearMatMul",
        "a small model of each",
    ),
    "verification/reference/quantised.py": (
        "DequantizeLinear DynamicQuantizeLinear QuantizeLinear",
        "an implementation of each",
    ),
}
"""By file the operators that are meant there, each itself and not as one of a kind, and why."""


def operators_named(text: str) -> set[str]:
    """The operators that a file names, but for those that a decorator registers something for, or that are written."""
    tree = ast.parse(text)
    free: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            free.update(id(part) for decorator in node.decorator_list for part in ast.walk(decorator))
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            free.update(id(argument) for argument in node.args if name in WRITES)
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and id(node) not in free and node.value in OPERATORS
    }


def test_operators_are_named_where_they_are_meant():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(RULES) and name != TABLE:
            found[name] = operators_named(path.read_text(encoding="utf-8"))
    for name, named in found.items():
        more = sorted(named - set(REVIEWED.get(name, ("",))[0].split()))
        assert not more, (
            f"onnx_xcam/{name} names {', '.join(more)}. What is known of an operator is a field of its row in "
            f"onnx_xcam/{TABLE}, and traits(node) asks for it; where no kind of operators but this very one is meant, "
            f"add it to REVIEWED and say why."
        )
    reviewed = {name: set(ops.split()) for name, (ops, _) in REVIEWED.items()}
    assert reviewed == {name: named for name, named in found.items() if named}, "REVIEWED has what is gone"


def test_what_is_registered_or_written_is_not_counted():
    assert operators_named('@rule("Relu")\ndef f(e):\n    return e.one("Add", [])') == set()
    assert operators_named('SAME = frozenset({"Relu", "Cast"})') == {"Relu", "Cast"}
    assert operators_named('def f(node):\n    return node.op == "Relu"') == {"Relu"}
