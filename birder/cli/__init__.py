"""The command line: `birder COMMAND`. One file a command; this one puts them together.

Nothing heavy is imported before a command runs, so `birder --help` answers at once.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from birder.cli.activity import activity
from birder.cli.adapt import adapt
from birder.cli.backup import backup
from birder.cli.classify import classify
from birder.cli.compare import compare
from birder.cli.convert import convert
from birder.cli.detect import detect
from birder.cli.duplicates import duplicates
from birder.cli.embed import INSTALLED, THIS_MACHINE, embed
from birder.cli.errors import exit_code, message_of, orderly_end, show_warning, tell_usage_error
from birder.cli.evaluate import evaluate
from birder.cli.export import export
from birder.cli.export_model import export_model
from birder.cli.failures import failures
from birder.cli.features import features
from birder.cli.fetch import fetch
from birder.cli.import_ import import_
from birder.cli.index import index
from birder.cli.info import info
from birder.cli.label import label, undo
from birder.cli.map_ import map_
from birder.cli.models import models
from birder.cli.output import note, prepare_streams, say
from birder.cli.predict import predict
from birder.cli.quantize import quantize
from birder.cli.relocate import relocate
from birder.cli.reproduce import reproduce
from birder.cli.search import search
from birder.cli.sequences import sequences
from birder.cli.serve import serve
from birder.cli.shards import shards
from birder.cli.shift_time import shift_time
from birder.cli.similar import similar
from birder.cli.stats import stats
from birder.cli.taxa import taxa
from birder.cli.tidy import tidy
from birder.cli.train import train
from birder.cli.train_clip import train_clip
from birder.cli.train_detector import train_detector
from birder.files import at_home

_COLUMNS = shutil.get_terminal_size().columns
_IS_NARROW = _COLUMNS < 60  # then boxes around help would cut words off
_TyperContext: Any = TyperGroup.context_class
_Formatter: Any = _TyperContext.formatter_class


class _NarrowFormatter(_Formatter):  # type: ignore[misc]
    """Help as plain text, with what an option means below its name rather than in what is left beside it."""

    def write_dl(self, rows: Any, col_max: int = 12, col_spacing: int = 2) -> None:
        super().write_dl(rows, col_max, col_spacing)


class _Context(_TyperContext):  # type: ignore[misc]
    formatter_class = _NarrowFormatter


class _Command(TyperCommand):
    """A command; of what it is given, a path that begins with ~/ is one in the user's folder, wherever it stands.

    The shell leaves the ~ of --to='~/x.csv' and of a path in quotes as it is.
    """

    context_class = _Context

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)
        for each in params:
            if getattr(each, "is_flag", False):
                each.metavar = ""  # typer would show <bool>, as if a flag took a value
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for name, value in ctx.params.items():
            ctx.params[name] = [*map(_whole_path, value)] if isinstance(value, list | tuple) else _whole_path(value)
        return rest


def _whole_path(value: Any) -> Any:
    return type(value)(at_home(value)) if isinstance(value, str | Path) and str(value).startswith("~") else value


class _Commands(TyperGroup):
    """The group of commands, which exits cleanly whatever the command was doing."""

    context_class = _Context

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with orderly_end():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with orderly_end():
            return super().invoke(ctx)


app = typer.Typer(
    name="birder",
    cls=_Commands,
    help="Embeddings, names and search for images of organisms.",
    epilog="Start with: birder embed IMAGES --in photos.birder, then look at them: birder serve photos.birder",
    no_args_is_help=True,
    rich_markup_mode=None if _IS_NARROW else "markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": _COLUMNS if _IS_NARROW else None},
)
_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Collections": {
        "detect": detect,
        "embed": embed,
        "failures": failures,
        "label": label,
        "undo": undo,
        "index": index,
        "tidy": tidy,
        "backup": backup,
        "relocate": relocate,
        "sequences": sequences,
        "shift-time": shift_time,
    },
    "Search and names": {"search": search, "similar": similar, "predict": predict, "classify": classify, "taxa": taxa},
    "Learn": {
        "adapt": adapt,
        "train": train,
        "evaluate": evaluate,
        "compare": compare,
        "reproduce": reproduce,
        "train-detector": train_detector,
        "shards": shards,
        "train-clip": train_clip,
    },
    "Look": {"serve": serve, "map": map_, "duplicates": duplicates, "stats": stats, "activity": activity},
    "Exchange": {"export": export, "import": import_, "features": features},
    "Models": {
        "models": models,
        "info": info,
        "fetch": fetch,
        "convert": convert,
        "quantize": quantize,
        "export-model": export_model,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, cls=_Command, rich_help_panel=_panel)(_command)


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


def _with_values(arguments: list[str]) -> list[str]:
    """The arguments, with a value for each `--ray` and `--detect` without one: typer's options always have a value.

    What follows `--detect` is a detector if it looks like one, and else an image.
    """
    from birder.registry import detectors
    from birder.weights.detector import ENDINGS

    told = []
    for argument, after in zip(arguments, [*arguments[1:], "-"], strict=False):
        if argument == "--ray" and after.startswith("-"):
            argument = f"--ray={THIS_MACHINE}"
        elif argument == "--detect" and not after.lower().endswith(ENDINGS) and after not in detectors():
            argument = f"--detect={INSTALLED}"
        told.append(argument)
    return told


def run() -> None:
    """Run the command line; `birder.cli.errors` says how it ends."""
    from birder.errors import BirderError

    warnings.showwarning = show_warning
    prepare_streams()
    try:
        sys.exit(app(_with_values(sys.argv[1:]), prog_name="birder", standalone_mode=False))
    except typer.TyperException as error:
        tell_usage_error(error)
        sys.exit(error.exit_code)
    except BirderError as error:
        note(f"birder: {message_of(error)}")
        sys.exit(exit_code(error))
