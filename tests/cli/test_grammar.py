"""The grammar of the command line, over every command of typer's tree: CONTRIBUTING.md writes it down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from birder.cli import _with_values, app

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
TAKE_IMAGES = {"detect", "embed", "similar", "predict", "classify", "features", "quantize"}
ON_A_COLLECTION = {
    "activity", "adapt", "backup", "compare", "duplicates", "evaluate", "export", "failures", "import", "index",
    "label", "map", "relocate", "search", "sequences", "serve", "shards", "shift-time", "stats", "tidy", "train",
    "undo",
}  # fmt: skip
ON_MODELS = {
    "convert", "export-model", "fetch", "info", "models", "reproduce", "taxa", "train-clip", "train-detector",
}  # fmt: skip
CHOOSE_ROWS = {
    "activity", "adapt", "compare", "detect", "duplicates", "evaluate", "export", "features", "label", "map", "predict",
    "search", "shards", "shift-time", "similar", "stats", "train",
}  # fmt: skip
"""The commands that read rows of a collection, each of which can read some of them."""
ON_ALL_ROWS = {
    "backup", "embed", "failures", "import", "index", "relocate", "sequences", "serve", "tidy", "undo",
}  # fmt: skip
"""The commands that add rows, keep the collection, or are about something else than its rows."""
SAME_HELP = {"-k", "--group-by", "--taxonomy", "--where", "--force", "--device", "--in", "--batch-size"}
SAME_BEGINNING = {
    "--format": "Format of the output: ",
    "--to": "Write to this file: ",
    "--model": "Model: a registered name, a hub repository, a folder or a checkpoint file",
}
AS_THE_ISSUE_WRITES_IT = {
    ("relocate", "--to"), ("evaluate", "--to"), ("shards", "--to"), ("backup", "DEST"), ("detect", "--model"),
    ("reproduce", "--to"), ("export-model", "DEST"), ("export-model", "--output"), ("train-clip", "--to"),
    ("train-clip", "--model"),
}  # fmt: skip
"""`evaluate`, `shards`, `reproduce` and `train-clip` write several files with `--to FOLDER`, `relocate --from OLD --to
NEW` names no file, `backup COLLECTION DEST` and `export-model MODEL DEST` name their destination by position,
`export-model --output` says which output of the network, the model of `detect` is a detector, and that of `train-clip`
is a network without weights."""
NOT_OUR_WORDS = re.compile(
    r"photograph|picture|text half|image half|without it\b|\bcondition\b|\bhopeless|\bnumbers each", re.IGNORECASE
)


def arguments(command: str) -> list[Any]:
    return [each for each in COMMANDS[command].params if each.param_type_name == "argument"]


def options(command: str) -> dict[str, Any]:
    """The options of a command, by each of their names."""
    own = [each for each in COMMANDS[command].params if each.param_type_name == "option"]
    return {name: each for each in own for name in each.opts if name not in ("--help", "-h")}


def test_every_command_belongs_to_one_kind() -> None:
    assert set(COMMANDS) == TAKE_IMAGES | ON_A_COLLECTION | ON_MODELS
    assert len(COMMANDS) == len(TAKE_IMAGES) + len(ON_A_COLLECTION) + len(ON_MODELS)


@pytest.mark.parametrize("command", sorted(ON_A_COLLECTION))
def test_command_on_a_collection_takes_it_as_first_argument(command: str) -> None:
    first = arguments(command)[0]
    required = command not in ("evaluate", "train")  # which take --data instead
    assert (first.metavar, first.required, first.help) == ("COLLECTION", required, "The collection, a folder.")
    assert "--in" not in options(command)


@pytest.mark.parametrize("command", sorted(TAKE_IMAGES))
def test_command_that_takes_images_has_them_as_arguments_and_the_collection_as_option(command: str) -> None:
    (only,) = arguments(command)
    assert only.metavar in ("IMAGE", "IMAGE...")
    assert command in ("classify", "detect", "quantize") or options(command)["--in"].metavar == "COLLECTION"


@pytest.mark.parametrize("command", sorted(ON_MODELS))
def test_command_on_models_takes_no_collection(command: str) -> None:
    assert all(each.metavar != "COLLECTION" for each in arguments(command))
    assert "--in" not in options(command)


def test_every_command_that_reads_rows_takes_a_filter() -> None:
    on_a_collection = ON_A_COLLECTION | {name for name in TAKE_IMAGES if "--in" in options(name)}
    assert on_a_collection == CHOOSE_ROWS | ON_ALL_ROWS
    assert {name for name in COMMANDS if "--where" in options(name)} == CHOOSE_ROWS


@pytest.mark.parametrize("name", sorted(SAME_HELP))
def test_shared_option_has_one_help_text(name: str) -> None:
    texts = {options(command)[name].help for command in COMMANDS if name in options(command)}
    assert len(texts) == 1, texts


@pytest.mark.parametrize("name", sorted(SAME_BEGINNING))
def test_shared_option_has_one_meaning(name: str) -> None:
    for command in COMMANDS:
        if name in options(command) and (command, name) not in AS_THE_ISSUE_WRITES_IT:
            assert options(command)[name].help.startswith(SAME_BEGINNING[name]), command


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_what_is_written_is_an_option(command: str) -> None:
    assert {"DEST", "OUTPUT", "TO"}.isdisjoint(
        each.metavar for each in arguments(command) if (command, each.metavar) not in AS_THE_ISSUE_WRITES_IT
    )
    there = options(command)
    unclear = {"--output", "--out", "--html", "--dest", "--for", "-o"} & there.keys()
    assert all((command, name) in AS_THE_ISSUE_WRITES_IT for name in unclear)
    if "--to" in there and (command, "--to") not in AS_THE_ISSUE_WRITES_IT and command != "fetch":
        assert "--force" in there
    if "--format" in there:
        assert "--to" in there


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_options_are_spelt_alike(command: str) -> None:
    for name in options(command):
        assert name == "-k" or re.fullmatch(r"--[a-z]+(-[a-z]+)*", name)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_uses_the_words_of_the_field(command: str) -> None:
    texts = [COMMANDS[command].help, *(each.help for each in COMMANDS[command].params)]
    assert [found for text in texts if (found := NOT_OUR_WORDS.search(text or ""))] == []
    assert all(text for text in texts)


def test_grammar_is_written_down() -> None:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    for line in (
        "birder COMMAND COLLECTION ... [--to FILE] [--format FORMAT]",
        "birder COMMAND IMAGE... --in COLLECTION",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("embed card --detect --in c", "embed card --detect=installed --in c"),
        ("embed --in c --detect card", "embed --in c --detect=installed card"),
        ("embed card --detect md.ONNX --ray", "embed card --detect md.ONNX --ray=local"),
        ("embed card --detect owls.pt --in c", "embed card --detect owls.pt --in c"),
        ("embed --detect nanodet_g_coco card --ray auto", "embed --detect nanodet_g_coco card --ray auto"),
        ("embed card --detect", "embed card --detect=installed"),
    ],
)
def test_value_of_an_option_may_be_left_out_where_the_help_says_so(given: str, told: str) -> None:
    assert _with_values(given.split()) == told.split()
