"""The programs in tools/: each is in the README there, shows its help, and imports names that exist."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

import tools

ROOT = Path(tools.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
OTHER_PACKAGES = {
    "tools.peers.methods": "torch",
    "tools.peers.perturbation": "torch",
    "tools.release.tiny_detector": "torch",
}
"""Programs that need more than the package does before they show their help, and what."""


def module_of(path: Path) -> str:
    return ".".join(("tools", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__main__")


PROGRAMS = [module_of(path) for path in FILES if "command_line.parser(" in path.read_text(encoding="utf-8")]


def test_the_readme_names_every_program_and_no_other():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `python -m (tools[\w.]*)", text, re.M))
    assert named == set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_shows_its_help(program, monkeypatch, capsys):
    needs = OTHER_PACKAGES.get(program)
    if needs is not None:
        pytest.importorskip(needs)
    path = ROOT.joinpath(*program.split(".")[1:])
    module = importlib.import_module(f"{program}.__main__" if path.is_dir() else program)
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"usage: python -m {program} ")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_name_that_a_program_imports_is_there(path):
    """Also those that it imports late, and those of programs that need packages which are not installed here."""
    here = module_of(path)
    missing = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("onnx_xcam", "tools"):
            missing += [
                f"{here}: {node.module}.{alias.name}" for alias in node.names if not _is_there(node.module, alias)
            ]
    assert missing == []


def _is_there(module: str, alias: ast.alias) -> bool:
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).split(".")[0] in ("onnx_xcam", "tools"):
            return False
        return alias.name in _stated(module)
    if hasattr(found, alias.name):
        return True
    return (Path(str(found.__file__)).parent / f"{alias.name}.py").is_file()


def _stated(module: str) -> set[str]:
    """The names that the source of a module of tools/, which cannot be imported here, defines at its top level."""
    path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names
