"""Who may import whom, read off the imports and tried in a fresh process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import onnx_xcam

PACKAGE = Path(onnx_xcam.__file__).parent
MODULES = {
    "onnx_xcam." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
}
HEAVY = {"onnxruntime", "cv2", "typer", "torch", "onnx", "onnx_graphsurgeon", "numpy", "yaml", "PIL", "google"}

THIRD = {
    "text": set(),
    "errors": set(),
    "contract": set(),
    "metadata": set(),
    "records": set(),
    "common": {"numpy", "yaml"},
    "cams": {"numpy"},
    "surgery": {"numpy", "onnx", "onnx_graphsurgeon", "google"},
    "images": {"numpy", "cv2", "PIL"},
    "labels": {"numpy"},
    "producers": set(),
    "inspection": set(),
    "runtime": {"numpy", "onnxruntime"},
    "feeds": {"numpy"},
    "trials": {"numpy", "onnx"},
    "ablation": {"numpy", "onnx", "google"},
    "explainer": {"numpy", "onnx", "google"},
    "verification": {"numpy", "onnx", "onnx_graphsurgeon"},
    "benchmark": {"numpy"},
    "evaluation": {"numpy"},
    "demo": {"numpy"},
    "report": {"numpy"},
    "jobs": {"numpy"},
    "cli": {"typer", "click", "rich", "numpy"},
}
"""What else than the standard library a part may import."""

BASE = {"text", "errors", "contract", "metadata", "common", "records"}
OURS = {
    "text": set(),
    "errors": {"text"},
    "common": {"errors", "text"},
    "contract": {"errors", "text"},
    "metadata": {"contract", "errors", "text"},
    "records": {"text"},
    "cams": BASE,
    "surgery": {*BASE, "cams"},
    "images": BASE,
    "labels": BASE,
    "producers": {*BASE, "images", "labels"},
    "inspection": {*BASE, "surgery", "images", "labels", "producers"},
    "runtime": BASE,
    "feeds": {*BASE, "runtime"},
    "trials": {*BASE, "surgery", "runtime", "feeds"},
    "ablation": {*BASE, "surgery", "runtime", "trials"},
    "explainer": {
        *BASE,
        "surgery",
        "ablation",
        "images",
        "runtime",
        "labels",
        "producers",
        "inspection",
        "cams",
        "feeds",
        "trials",
    },
    "verification": {*BASE, "trials", "surgery", "runtime", "cams", "explainer", "feeds"},
    "benchmark": {*BASE, "surgery", "runtime", "feeds", "explainer"},
    "evaluation": {*BASE, "cams", "surgery", "images", "runtime", "labels", "explainer", "feeds"},
    "demo": {*BASE, "cams", "surgery", "images", "explainer", "feeds", "trials"},
    "report": {*BASE, "images", "explainer"},
    "jobs": {*BASE, "cams", "images", "explainer", "evaluation", "report"},
    "cli": {
        *BASE,
        "cams",
        "surgery",
        "images",
        "labels",
        "producers",
        "explainer",
        "verification",
        "feeds",
        "trials",
        "benchmark",
        "demo",
        "report",
        "evaluation",
        "jobs",
        "inspection",
    },
}
"""Which parts of the package a part may import: imports run downward only."""


SURGERY = [
    "files",
    "ir",
    "lowering",
    "analysis",
    "normalise",
    "builder",
    "rules",
    "autodiff",
    "axes",
    "targets",
    "tail",
    "submodels",
]
"""The folders of the surgery, from the ground up: each may import those before it, the modules beside them all."""


def part_of(module: str) -> str:
    return module.split(".")[1]


def imports(path: Path, *, typing: bool) -> set[str]:
    """All modules that a file imports, wherever in it; those under `if TYPE_CHECKING` only with `typing`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING" and not typing:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add(node.module or "")
            if node.module == "onnx_xcam":
                found.update(f"onnx_xcam.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_every_part_is_known():
    assert {part_of(module) for module in MODULES} == set(OURS) == set(THIRD)
    assert len(MODULES) > 40


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module):
    part = part_of(module)
    for name in imports(MODULES[module], typing=True):
        if name.startswith("onnx_xcam."):
            assert part_of(name) in OURS[part] | {part}, f"{module} imports {name}"
        elif (top := name.split(".")[0]) != "onnx_xcam" and top not in sys.stdlib_module_names:
            assert top in THIRD[part], f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("onnx_xcam.surgery.")])
def test_imports_run_downward_within_the_surgery(module):
    folder = module.split(".")[2]
    for name in imports(MODULES[module], typing=True):
        other = name.removeprefix("onnx_xcam.surgery.").split(".")[0]
        if folder in SURGERY and name.startswith("onnx_xcam.surgery."):
            assert other in SURGERY[: SURGERY.index(folder) + 1], f"{module} imports {name}"


def test_nothing_imports_torch():
    for module, path in MODULES.items():
        assert not any(name.split(".")[0] in ("torch", "torchvision") for name in imports(path, typing=True)), module


def test_only_one_place_imports_onnxruntime():
    users = {
        part_of(m)
        for m, path in MODULES.items()
        if "onnxruntime" in {n.split(".")[0] for n in imports(path, typing=True)}
    }
    assert users <= {"runtime"}


def test_nothing_runs_in_a_circle():
    """No part imports, by way of others, itself."""

    def below(part):
        seen, todo = set(), [part]
        while todo:
            for other in OURS[todo.pop()] - seen:
                seen.add(other)
                todo.append(other)
        return seen

    for part in OURS:
        assert part not in below(part)


def loaded_by(statement: str) -> set[str]:
    """The heavy packages in a fresh process after a statement."""
    code = f"import sys\n{statement}\nprint(*(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import onnx_xcam; dir(onnx_xcam); onnx_xcam.__version__", set()),
        ("import onnx_xcam.errors, onnx_xcam.contract, onnx_xcam.metadata", set()),
        ("import onnx_xcam; onnx_xcam.XcamError", set()),
        ("import onnx_xcam.surgery", {"numpy", "onnx", "onnx_graphsurgeon", "google", "yaml"}),
        (
            "import onnx_xcam; onnx_xcam.instrument, onnx_xcam.inspect",
            {"numpy", "onnx", "onnx_graphsurgeon", "google", "yaml"},
        ),
    ],
)
def test_a_fresh_process_loads_no_more(statement, allowed):
    assert loaded_by(statement) <= allowed


def test_the_surgery_works_where_onnxruntime_and_opencv_are_missing(tmp_path):
    """Not only the import: a whole surgery, in a process in which importing these is an error."""
    import onnx

    from helpers.models import cnn

    onnx.save(cnn("dense", n="N", opset=9, ir=4), tmp_path / "m.onnx")
    code = (
        "import sys\n"
        "for name in ('onnxruntime', 'cv2', 'typer', 'PIL', 'torch'): sys.modules[name] = None\n"
        "import onnx_xcam\n"
        "plain, made = sys.argv[1:]\n"
        "onnx_xcam.instrument_file(plain, made, emit=onnx_xcam.contract.EMITS)\n"
        "print(onnx_xcam.inspect(plain).text())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "o.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path)), "and prints nothing else"
    assert (tmp_path / "o.onnx").stat().st_size > (tmp_path / "m.onnx").stat().st_size


def test_public_names():
    assert set(dir(onnx_xcam)) == set(onnx_xcam.__all__)
    for name in onnx_xcam.__all__:
        assert getattr(onnx_xcam, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'explode'"):
        _ = onnx_xcam.explode
