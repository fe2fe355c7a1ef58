"""This module has the Typer app, and is the one place where errors become an exit status.

Results go to stdout, messages to stderr. The exit status is 0 if all is done, 1 if something failed, 2 if the command
line is wrong, and 130 if the user interrupted it. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import onnx_xcam
from onnx_xcam.cli.bench import bench
from onnx_xcam.cli.check import check
from onnx_xcam.cli.compare import compare
from onnx_xcam.cli.demo import demo
from onnx_xcam.cli.evaluate import evaluate
from onnx_xcam.cli.explain import explain
from onnx_xcam.cli.inspect import inspect
from onnx_xcam.cli.instrument import instrument
from onnx_xcam.errors import XcamError
from onnx_xcam.text import printable

INTERRUPTED = 130
"""The exit status that a shell reports for a program which Ctrl-C ended."""


class _Group(TyperGroup):
    """A _Group ends an XcamError of its commands in one clear message, and in a traceback only with --debug."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and turn its errors into an exit status."""
        try:
            return super().invoke(ctx)
        except XcamError as error:
            if ctx.params.get("debug"):
                raise
            _fail(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    name="onnx-xcam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _fail(message: str) -> None:
    """Print an error on stderr."""
    typer.echo(printable(f"error: {message}"), err=True)


def _print_version(wanted: bool) -> None:
    """Print the version and exit, if --version is given."""
    if wanted:
        typer.echo(f"onnx-xcam {onnx_xcam.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """XGrad-CAM for any exported ONNX vision model: see which pixels made it say "cat"."""


app.command(short_help="Show what can be explained in a model.")(inspect)
app.command(short_help="Write a model that explains itself.")(instrument)
app.command(short_help="Explain photos.")(explain)
app.command(short_help="Compare methods on a photo.")(compare)
app.command(short_help="Measure how good maps are, on photos.")(evaluate)
app.command(short_help="Prove the explanations on a model.")(check)
app.command(short_help="Measure what explanations cost.")(bench)
app.command(short_help="Write a web page that explains photos.")(demo)


def main() -> None:
    """Run the command line; the entry point of the `onnx-xcam` script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a label that the console cannot show must not end the program
    try:
        app(prog_name="onnx-xcam")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _fail(f"unexpected {type(error).__name__}: {error}. This is a bug; `onnx-xcam --debug ...` shows where.")
        sys.exit(1)
