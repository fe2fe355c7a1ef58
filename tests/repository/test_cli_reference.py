"""docs/cli.md says what the program does."""

from __future__ import annotations

import re
import subprocess
import sys

from helpers import ROOT
from tools.release import cli_reference

COMMANDS = ("inspect", "instrument", "explain", "compare", "evaluate", "check", "bench", "demo")


def test_the_reference_is_up_to_date():
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == cli_reference.reference(), (
        "run: python -m tools.release.cli_reference"
    )


def test_every_command_and_option_is_in_it_with_a_help_text():
    import typer

    from onnx_xcam.cli import app

    program = typer.main.get_command(app)
    text = cli_reference.reference()
    assert tuple(program.commands) == COMMANDS
    for name, command in program.commands.items():
        assert f"## onnx-xcam {name}\n" in text
        for param in command.params:
            assert param.help, f"{name}: {param.name} has no help text"
            assert not re.search(r"\{[\w.]+\}", param.help), f"{name}: {param.name} shows a placeholder: {param.help}"
            for option in param.opts if param.param_type_name == "option" else ():
                assert option in text


def test_check_finds_a_reference_that_is_out_of_date(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli_reference, "PATH", tmp_path / "docs" / "cli.md")
    monkeypatch.setattr(sys, "argv", ["cli_reference"])
    assert cli_reference.main() == 0
    monkeypatch.setattr(sys, "argv", ["cli_reference", "--check"])
    assert cli_reference.main() == 0
    cli_reference.PATH.write_text(cli_reference.PATH.read_text(encoding="utf-8") + "x", encoding="utf-8")
    assert cli_reference.main() == 1
    assert "not up to date" in capsys.readouterr().err


def test_the_tool_runs_as_a_program():
    command = [sys.executable, "-m", "tools.release.cli_reference", "--check"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == 0
