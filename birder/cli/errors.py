"""What ends a command early: its message on standard error, and its exit code.

0: done. 1: something failed, an image or the work itself. 2: wrong use. 130: Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

import typer

from birder.cli.output import note
from birder.errors import (
    BirderError,
    CollectionNotFoundError,
    ConfigError,
    FileExistsError,
    MissingExtraError,
    NoTextEncoderError,
    UnknownNameError,
    WrongModelError,
)

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
_WRONG_USE = (
    CollectionNotFoundError,
    ConfigError,
    FileExistsError,
    MissingExtraError,
    NoTextEncoderError,
    UnknownNameError,
    WrongModelError,
)


def exit_code(error: BirderError) -> int:
    """The exit code for an error of ours: WRONG_USE where other arguments avoid it, else FAILED."""
    return WRONG_USE if isinstance(error, _WRONG_USE) else FAILED


def examples_of(help_text: str) -> list[str]:
    """The commands that a help text shows: its lines that begin with `birder`."""
    return [line.strip() for line in help_text.splitlines() if line.strip().startswith("birder ")]


def tell_usage_error(error: typer.TyperException) -> None:
    """Print what is wrong with a command line, the command's usage and an example."""
    message = error.format_message()
    if not message:  # `birder` alone has printed its help
        return
    context: typer.Context | None = getattr(error, "ctx", None)
    unknown = getattr(error, "option_name", None)
    if context is None:
        note(f"birder: {message}")
        return
    options = {name for parameter in context.command.params for name in parameter.opts}
    if unknown == "--to" and "--in" in options:
        message = "No such option: --to. Did you mean --in?"
    note(f"birder: {message}")
    note(context.get_usage())
    for example in examples_of(context.command.help or "")[:1]:
        note(f"Example: {example}")
    note(f"All options: {context.command_path} --help")


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Turn Ctrl-C into one sentence, and a reader of standard output that has gone into an end without a word."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        note("birder: interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # `birder models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as people read it, and others as Python does."""
    if category.__module__.startswith("birder"):
        note(f"birder: {message}")
    else:
        note(warnings.formatwarning(message, category, filename, lineno, line).rstrip())
