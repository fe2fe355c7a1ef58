"""What depends on what is asked of `analysis/reachability.py`: nobody else walks over nodes with a set that grows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import onnx_xcam

PACKAGE = Path(onnx_xcam.__file__).parent
OF_NODES = (".nodes", ".node", ".outputs", ".output", ".inputs", ".input", "producer", "readers")
OTHERS = {
    "surgery/analysis/reachability.py walk_forward": "the walk itself",
    "surgery/analysis/reachability.py walk_backward": "the walk itself",
    "surgery/analysis/foreign_operators.py foreign_operators": "goes into subgraphs, follows no tensor",
    "surgery/analysis/foreign_operators.py foreign_among": "goes into subgraphs, follows no tensor",
    "surgery/analysis/input_scaling.py scaling": "hands on how the values are scaled",
    "surgery/analysis/integer_products.py _parts": "goes into subgraphs, follows no tensor",
    "surgery/analysis/prepare.py _check_order": "looks for the first node that is not in order",
    "surgery/autodiff/local/plan.py _forms": "hands on what the axes of each tensor are",
    "surgery/axes/batch_independence.py cannot_mix": "hands the rank of each tensor on",
    "surgery/builder/emitter.py needed": "follows steps that are no nodes yet",
    "explainer/probabilities.py _source_in_graph": "hands on how probabilities are made",
    "surgery/ir/graph.py quantised": "hands the type of each tensor on",
    "surgery/ir/verify.py _all_nodes": "goes into subgraphs, follows no tensor",
    "surgery/ir/verify.py _calls": "goes into subgraphs, follows no tensor",
    "surgery/ir/verify.py _stated_sizes": "goes into subgraphs, follows no tensor",
    "surgery/normalise/inline_if.py rename": "renames",
    "surgery/targets/detection/last_layers.py _followed": "follows columns of tensors",
    "surgery/randomise.py _behind": "hands on what integers are for",
    "surgery/randomise.py _without_repeats": "gives each weight to one layer",
}
"""Functions with such a loop for another purpose, and which."""


def grown(loop: ast.For | ast.While) -> set[str]:
    """The names of what a loop adds to."""
    calls = [n.func for n in ast.walk(loop) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    named = [(f.attr, f.value.id) for f in calls if isinstance(f.value, ast.Name)]
    sums = [n.target.id for n in ast.walk(loop) if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)]
    return {name for method, name in named if method in ("update", "add", "append", "extend")} | set(sums)


def asked(loop: ast.For | ast.While) -> set[str]:
    """The names of what a loop looks something up in, or takes from."""
    found = {loop.test.id} if isinstance(loop, ast.While) and isinstance(loop.test, ast.Name) else set()
    for node in ast.walk(loop):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            found |= {one.id for one in node.comparators if isinstance(one, ast.Name)}
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            found |= {node.func.value.id} if node.func.attr in ("isdisjoint", "intersection", "pop") else set()
    return found


def walks(text: str) -> Iterator[str]:
    """The functions of a module with a loop over nodes that asks whether something is in what it makes grow."""
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            loops = [loop for loop in ast.walk(function) if isinstance(loop, ast.For | ast.While)]
            if any(grown(one) & asked(one) and any(w in ast.unparse(one) for w in OF_NODES) for one in loops):
                yield function.name


def test_reachability_alone_walks():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()} {name}"
        for path in PACKAGE.rglob("*.py")
        for name in walks(path.read_text(encoding="utf-8"))
    }
    assert found - OTHERS.keys() == set(), "ask analysis/reachability.py, or say in OTHERS what else this loop does"
    assert OTHERS.keys() - found == set(), "these are gone: take them out of OTHERS"


def test_a_walk_is_noticed():
    by_hand = """
def behind(graph, names):
    reached = set(names)
    for node in graph.nodes:
        if any(tensor.name in reached for tensor in node.inputs):
            reached.update(out.name for out in node.outputs)
    return reached
"""
    assert list(walks(by_hand)) == ["behind"]
