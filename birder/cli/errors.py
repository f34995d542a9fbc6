"""What ends a command early: its message on standard error, and its exit code.

0: done. 1: something failed, an image or the work itself. 2: wrong use. 130: Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import typer

from birder import errors
from birder.cli.output import note, one_line

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130
_WRONG_USE = (
    errors.CollectionNotFoundError,
    errors.ConfigError,
    errors.FileExistsError,
    errors.ImagesMovedError,
    errors.MissingExtraError,
    errors.NoTextEncoderError,
    errors.RowNotFoundError,
    errors.UnknownNameError,
    errors.WrongModelError,
)


def exit_code(error: errors.BirderError) -> int:
    """The exit code for a Birder error: WRONG_USE if other arguments would avoid it, else FAILED."""
    return WRONG_USE if isinstance(error, _WRONG_USE) else FAILED


def message_of(error: errors.BirderError) -> str:
    """The message of a Birder error, in the words of the command line."""
    if not isinstance(error, errors.ImagesMovedError):
        return str(error)
    lines = []
    for each in error.folders:
        command = ["birder", "relocate", str(error.collection), "--from", each.old, "--to", each.new]
        lines.append(f"{each.files:,} images of {each.old} are in {each.new} now. To keep their rows and labels:")
        lines.append(f"  {shlex.join(command)}")
    return "\n".join([*lines, "Then embed again. To embed them as new images, without labels, use --as-new."])


def examples_of(help_text: str) -> list[str]:
    """The commands that a help text shows after "For example:"."""
    lines = map(str.strip, help_text.partition("For example:")[2].splitlines())
    return [line for line in lines if line.startswith("birder ")]


def tell_usage_error(error: typer.TyperException) -> None:
    """Print what is wrong with a command line, the command's usage and an example."""
    message = error.format_message()
    if not message:  # `birder` alone has printed its help
        return
    context: typer.Context | None = getattr(error, "ctx", None)
    unknown: str | None = getattr(error, "option_name", None)
    if context is None:
        note(f"birder: {message}")
        return
    if hasattr(error, "possibilities"):
        message = f"No such option: {unknown}.{_instead(unknown, error.possibilities or (), context)}"
    note(f"birder: {message}")
    note(context.get_usage())
    for example in examples_of(context.command.help or "")[:1]:
        note(f"Example: {example}")
    note(f"All options: {context.command_path} --help")


def _instead(unknown: str | None, close: Iterable[str], context: typer.Context) -> str:
    """A hint at the right option, for one that a command does not have."""
    options = {name for parameter in context.command.params for name in parameter.opts}
    if unknown == "--to" and "--in" in options:
        close = ["--in"]
    elif unknown in ("--html", "--output", "--sort-into") and "--to" in options:
        close = ["--to"]
    elif unknown == "--for" and "--format" in options:
        close = ["--format"]
    elif unknown in ("--in", "--to") and "collection" in options:
        return " The collection is the first argument."
    return f" Did you mean {' or '.join(sorted(close))}?" if close else ""


def tell_unreadable(unreadable: Sequence[tuple[str, str]], total: int) -> None:
    """List images that could not be read, each with its reason, and end with the exit code that says so."""
    from birder.sources import readable

    for path, reason in unreadable:
        note(f"birder: {one_line(readable(path))}: {one_line(reason)}")
    if unreadable:
        note(f"{len(unreadable):,} of {total:,} could not be read.")
        raise typer.Exit(FAILED)


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Turn Ctrl-C into a one-line message, and a closed standard output into a silent exit."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        note("birder: interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # `birder models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich has met it
            raise typer.Exit from None
        raise


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print Birder's warnings as plain text, and others as Python does."""
    if category.__module__.startswith("birder"):
        note(f"birder: {message}")
    else:
        note(warnings.formatwarning(message, category, filename, lineno, line).rstrip())
