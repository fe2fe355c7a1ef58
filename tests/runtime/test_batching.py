"""How much a run takes at once: what the bounds give, and that they stand in one place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import onnx_xcam
from onnx_xcam.runtime import batching

PACKAGE = Path(onnx_xcam.__file__).parent
BOUND = re.compile(r"(PER_RUN|AT_ONCE|PER_GROUP|PER_BATCH|_ARENA\b|\bARENA|WORKERS)")


def test_one_of_whatever_size_is_always_run():
    huge = 1 << 50
    assert batching.classes_per_run(huge) == batching.masks_per_run(huge, "CPUExecutionProvider") == 1
    assert batching.changed_pictures_per_run(huge) == batching.changed_pictures_per_run(1, most=0) == 1


def test_as_many_as_fill_the_bound():
    assert batching.classes_per_run(batching.BYTES_OF_CLASSES // 7) == 7
    mask = batching.BYTES_OF_MASKS // (batching.ARENA * 3)
    assert batching.masks_per_run(mask, "CPUExecutionProvider") == 3
    assert batching.masks_per_run(mask, "CUDAExecutionProvider") == 24
    picture = batching.BYTES_OF_CHANGED_PICTURES // 5
    assert [batching.changed_pictures_per_run(picture, most) for most in (3, 32)] == [3, 5]
    assert batching.changed_pictures_per_run(0) == batching.IMAGES_PER_RUN


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_has_a_bound_of_its_own(path):
    if path == Path(batching.__file__):
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for name in (
            one.id for target in targets for one in ast.walk(target or ast.Pass()) if isinstance(one, ast.Name)
        ):
            assert not BOUND.search(name), f"{path}: {name} bounds what a run takes; it belongs in runtime/batching.py"
