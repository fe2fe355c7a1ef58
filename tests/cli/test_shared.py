"""The groups of options that commands share: `spread` gives a command an option for each field of a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from onnx_xcam.cli.shared import spread


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Colours is a group of two options."""

    ink: Annotated[str, typer.Option("--ink", help="Of the text.")] = "black"
    dark: Annotated[bool, typer.Option("--dark", help="On black.")] = False


RECEIVED: list[tuple[str, int, Colours, str]] = []
app = typer.Typer()


@app.command()
@spread
def write(
    word: Annotated[str, typer.Argument(metavar="WORD")],
    *,
    size: Annotated[int, typer.Option("--size")] = 3,
    colours: Colours,
    font: Annotated[str, typer.Option("--font")] = "serif",
) -> None:
    """Write a word."""
    RECEIVED.append((word, size, colours, font))


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        (["a"], ("a", 3, Colours(), "serif")),
        (["a", "--dark"], ("a", 3, Colours(dark=True), "serif")),
        (["--ink", "red", "a", "--font", "mono", "--size", "4"], ("a", 4, Colours(ink="red"), "mono")),
    ],
)
def test_a_group_reaches_the_command_as_one_value(arguments, received):
    RECEIVED.clear()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert [received] == RECEIVED


def test_the_options_of_a_group_stand_in_its_place():
    params = typer.main.get_command(app).params
    assert [param.name for param in params][:5] == ["word", "size", "ink", "dark", "font"]
    assert params[2].help == "Of the text."


def test_an_option_that_no_group_has_is_refused():
    assert CliRunner().invoke(app, ["a", "--light"]).exit_code == 2
