"""Names of classes that a graph looks up behind its scores, as skl2onnx, tf2onnx and the standard write it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from helpers.models import C, cnn
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.targets.analysis import analyse

NAMES = [f"kind {letter}" for letter in "abcdefghij"[:C]]
ML = "ai.onnx.ml"


def model(nodes: list[onnx.NodeProto], *, table: np.ndarray | None = None, of: str = "s") -> onnx.ModelProto:
    """A classifier with a softmax and an ArgMax, `best`, and nodes behind them."""
    end = f"s = Softmax<axis=1>(logits)  best = ArgMax<axis=1, keepdims=0>({of})"
    made = cnn("dense", end=end, output=f"float[N,{C}] s")
    made.opset_import.add(domain=ML, version=3)
    if table is not None:
        made.graph.initializer.append(numpy_helper.from_array(table, "table"))
    made.graph.node.extend(nodes)
    return made


def strings(made: onnx.ModelProto) -> onnx.ModelProto:
    made.graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]))
    return made


def zip_map(**labels: list) -> onnx.ModelProto:
    made = model([helper.make_node("ZipMap", ["s"], ["pairs"], domain=ML, **labels)])
    key = TensorProto.STRING if "classlabels_strings" in labels else TensorProto.INT64
    pairs = helper.make_map_type_proto(key, helper.make_tensor_type_proto(1, []))
    made.graph.output.append(helper.make_value_info("pairs", helper.make_sequence_type_proto(pairs)))
    return made


def looked_up(op: str, domain: str = "", table: list[str] = NAMES) -> onnx.ModelProto:
    node = helper.make_node(op, ["table", "best"], ["label"], domain=domain)
    return strings(model([node], table=np.array(table, dtype=object)))


def mapped(op: str, **attributes: object) -> onnx.ModelProto:
    return strings(model([helper.make_node(op, ["best"], ["label"], domain=ML, default_string="?", **attributes)]))


def alone(made: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with its last output alone."""
    del made.graph.output[:-1]
    return made


def found(made: onnx.ModelProto) -> tuple[str, ...] | None:
    return analyse(Source(made)).class_names


WRITTEN = {
    "ZipMap": lambda: zip_map(classlabels_strings=NAMES),
    "Gather": lambda: looked_up("Gather"),
    "ArrayFeatureExtractor": lambda: looked_up("ArrayFeatureExtractor", ML),
    "LabelEncoder": lambda: mapped("LabelEncoder", keys_int64s=list(range(C)), values_strings=NAMES),
    "LabelEncoder, in another order": lambda: mapped(
        "LabelEncoder", keys_int64s=list(range(C))[::-1], values_strings=NAMES[::-1]
    ),
    "CategoryMapper": lambda: mapped("CategoryMapper", cats_int64s=list(range(C)), cats_strings=NAMES),
}


@pytest.mark.parametrize("case", WRITTEN)
@pytest.mark.parametrize("whole", [True, False], ids=["beside the probabilities", "alone"])
def test_names_are_found_by_class_id(case, whole):
    made = WRITTEN[case]()
    assert found(made if whole else alone(made)) == tuple(NAMES)


def test_numbers_that_are_no_ids_are_names():
    numbers = [10 * index + 3 for index in range(C)]
    assert found(zip_map(classlabels_int64s=numbers)) == tuple(map(str, numbers))


def test_the_ids_themselves_are_no_names():
    assert found(zip_map(classlabels_int64s=list(range(C)))) is None


def test_ids_that_are_left_out_have_no_name():
    assert found(mapped("LabelEncoder", keys_int64s=[0, 2], values_strings=["a", "c"])) == ("a", "", "c")


@pytest.mark.parametrize("ids", [[-1, 0], [0, 1 << 40]], ids=["negative", "huge"])
def test_impossible_ids_are_no_names(ids):
    assert found(mapped("LabelEncoder", keys_int64s=ids, values_strings=["a", "b"])) is None


def test_names_of_something_else_than_the_score_are_not_taken():
    """The names of the darkest channel are none of the classes."""
    node = helper.make_node("Gather", ["table", "darkest"], ["label"])
    made = strings(model([node], table=np.array(NAMES, dtype=object)))
    made.graph.node.insert(0, helper.make_node("ReduceMean", ["image"], ["grey"], axes=[2, 3], keepdims=0))
    made.graph.node.insert(1, helper.make_node("ArgMin", ["grey"], ["darkest"], axis=1, keepdims=0))
    assert found(made) is None


def test_a_table_of_numbers_is_none_of_names():
    node = helper.make_node("Gather", ["table", "best"], ["label"])
    made = model([node], table=np.arange(C, dtype=np.float32))
    made.graph.output.append(helper.make_tensor_value_info("label", TensorProto.FLOAT, ["N"]))
    assert found(made) is None
