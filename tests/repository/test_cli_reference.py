"""docs/cli.md says what the program does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers import ROOT

COMMANDS = ("inspect", "instrument", "explain", "compare", "evaluate", "check", "bench", "demo")


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import make_cli_reference
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return make_cli_reference


def test_the_reference_is_up_to_date(tool):
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == tool.reference(), (
        "run: python tools/make_cli_reference.py"
    )


def test_every_command_and_option_is_in_it_with_a_help_text(tool):
    import typer

    from onnx_xcam.cli import app

    program = typer.main.get_command(app)
    text = tool.reference()
    assert tuple(program.commands) == COMMANDS
    for name, command in program.commands.items():
        assert f"## onnx-xcam {name}\n" in text
        for param in command.params:
            assert param.help, f"{name}: {param.name} has no help text"
            for option in param.opts if param.param_type_name == "option" else ():
                assert option in text


def test_check_finds_a_reference_that_is_out_of_date(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "PATH", tmp_path / "docs" / "cli.md")
    monkeypatch.setattr(sys, "argv", ["make_cli_reference.py"])
    assert tool.main() == 0
    monkeypatch.setattr(sys, "argv", ["make_cli_reference.py", "--check"])
    assert tool.main() == 0
    tool.PATH.write_text(tool.PATH.read_text(encoding="utf-8") + "x", encoding="utf-8")
    assert tool.main() == 1
    assert "not up to date" in capsys.readouterr().err


def test_the_tool_runs_as_a_program():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tools" / "make_cli_reference.py"), "--check"]
    done = subprocess.run(command, env=environment, check=False)
    assert done.returncode == 0
