"""The command line: `birder COMMAND`. One file a command; this one puts them together and prints errors.

Nothing heavy is imported before a command runs, so `birder --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, TextIO

import typer

from birder.cli.classify import classify
from birder.cli.convert import convert
from birder.cli.duplicates import duplicates
from birder.cli.embed import HERE, embed
from birder.cli.export import export
from birder.cli.failures import failures
from birder.cli.features import features
from birder.cli.fetch import fetch
from birder.cli.import_ import import_
from birder.cli.index import index
from birder.cli.info import info
from birder.cli.map_ import map_
from birder.cli.models import models
from birder.cli.output import note, say
from birder.cli.predict import predict
from birder.cli.quantize import quantize
from birder.cli.search import search
from birder.cli.serve import serve
from birder.cli.similar import similar
from birder.cli.stats import stats
from birder.cli.taxa import taxa
from birder.cli.tidy import tidy

app = typer.Typer(
    name="birder",
    help="Embeddings, names and search for photographs of organisms.",
    epilog="Start with: birder embed PHOTOS --to photos.birder, then look at them: birder serve photos.birder",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Collections": {"embed": embed, "failures": failures, "index": index, "tidy": tidy},
    "Search and names": {"search": search, "similar": similar, "predict": predict, "classify": classify, "taxa": taxa},
    "Look": {"serve": serve, "map": map_, "duplicates": duplicates, "stats": stats},
    "Take elsewhere": {"export": export, "import": import_, "features": features},
    "Models": {"models": models, "info": info, "fetch": fetch, "convert": convert, "quantize": quantize},
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)


def _version(show: bool) -> None:
    if show:
        from birder.version import __version__

        say(f"birder {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _spelt_out(arguments: list[str]) -> list[str]:
    """The arguments, with an address behind a `--ray` that stands alone: typer has no option with an optional value."""
    following = [*arguments[1:], "-"]
    return (
        [
            f"--ray={HERE}" if argument == "--ray" and after.startswith("-") else argument
            for argument, after in zip(arguments, following, strict=True)
        ]
        if arguments
        else []
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as people read it, and others as Python does."""
    text = str(message)
    if not category.__module__.startswith("birder"):
        text = warnings.formatwarning(message, category, filename, lineno, line).rstrip()
    note(f"birder: {text}" if category.__module__.startswith("birder") else text)


def run() -> None:
    """Run the command line; errors of ours end with their message and exit code 1, Ctrl-C with 130."""
    from birder.errors import BirderError

    warnings.showwarning = _show_warning
    try:
        app(_spelt_out(sys.argv[1:]))
    except BirderError as error:
        note(f"birder: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        note("birder: interrupted")
        sys.exit(130)
    except BrokenPipeError:  # `birder models | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
