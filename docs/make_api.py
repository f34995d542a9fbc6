"""docs/api.md, made from the docstrings of the public names: `python docs/make_api.py` writes it, `make docs` does too.

The source is read, not run: the page is the same on every machine.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"

SECTIONS: dict[str, tuple[str, ...]] = {
    "Collections": ("open_collection", "create_collection", "embed", "evaluate_benchmark", "import_file", "Collection"),
    "Images without a collection": (
        "detect",
        "predict",
        "reproduce",
        "classify",
        "image_features",
        "list_taxa",
        "open_image",
        "train_clip",
        "train_detector",
    ),
    "Models": (
        *("list_pretrained_models", "load_pretrained_model", "load_pretrained_model_and_transform", "load_model"),
        *("load_model_with_cfg", "load_clip", "create_model_and_transforms", "get_tokenizer", "create_network"),
        *("list_networks", "register_weights", "save_model", "classification_transform", "infer_image", "infer_batch"),
        *("infer_dataloader", "get_size_from_signature", "get_channels_from_signature"),
        *("get_num_labels_from_signature", "ModelInfo", "LoadedClip", "export_model", "export_to_web"),
    ),
    "Reports and results": (
        *("SearchResults", "Predictions", "HeldOut", "Duplicates", "Sequences", "Rows", "ImageFeatures"),
        *("EmbedReport", "Progress"),
        *("ExportReport", "ImportReport", "MapPoints", "Stats", "ColumnStats", "ValueCount", "Agreement"),
        *("Activity", "Species"),
        *(
            "Adapted",
            "ExportedModel",
            "FieldApp",
            "Trained",
            "Evaluation",
            "Comparison",
            "Reproduction",
            "ShardsMade",
            "Detected",
            "ClipTraining",
            "TrainedDetector",
            "Suggestions",
            "Suggestion",
            "Change",
            "Accepted",
            "Undone",
            "HistoryPage",
            "PastAct",
            "IndexStatus",
            "Tidied",
            "Backup",
            "Relocated",
            "Shifted",
        ),
        *("ModelCard", "Project", "Filter", "parse_filter"),
    ),
}
"""The page's sections and the names in each; names that are in none come under the last, errors under their own."""

_INTRODUCTION = """\
# The Python interface

What the commands do, Python does, with the same words: a command is a method of `birder.Collection` or a function,
and its options are parameters. `import birder` is enough, and costs next to nothing: everything here is an
attribute of `birder` that is imported when it is first used.

## A first example

In a clone of the repository, with [Birder installed](install.md):

```python
import birder

collection, report = birder.embed("examples/photos/birds", into="birds.birder")
print(report.embedded, "embedded,", len(report.failed), "failed")

for row in collection.search(images="examples/photos/birds/owl.jpg", k=3):
    print(row["similarity"], row["uri"])

collection.label(collection.ids("uri LIKE '%/penguin%'"), "penguin", author="Ada")
table = collection.to_arrow(where="label = 'penguin'")  # to_pandas() and to_polars() where those are installed
```

- **A collection** is opened with `birder.open_collection("birds.birder")` the next time. It reads what is on the
  disk: several programs may have it open, and one at a time
  adds images.
- **Rows** are chosen by `where`, an [SQL filter](search.md#by-filter), or by their ids. What comes back is a sequence
  of dictionaries, a `pyarrow.Table`, or batches where there may be millions.
- **Embeddings** are float32 arrays (N, D), as the network computes them: not normalised.
- **Errors** that Birder raises on purpose are `birder.BirderError`s ([below](#errors)); their messages say what to do
  next.
- `progress=None` keeps long calls silent.

By task: [a first collection](first-collection.md), [searching](search.md), [names](names.md), [learning](learn.md),
[looking](explore.md), [networks and embeddings without a collection](inference.md).

The examples below run in a folder with the example images as `photos` (`cp -r examples/photos photos`) and the
collection `photos.birder` that `birder embed photos --in photos.birder` makes of them, so an image's label is the
name of its folder; tests run every one.

*This page is made from the docstrings by `make docs`: change those.*
"""
_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_LISTED = {"Parameters", "Attributes", "Raises"}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Public(NamedTuple):
    """A public name: where it is defined, and how."""

    name: str
    module: str
    node: Definition


@cache
def public_names() -> dict[str, Public]:
    """Every name that `birder` offers and that is a class or function, in the order of `birder/__init__.py`."""
    homes = _assigned(_parsed("birder"), "_HOMES")
    found: dict[str, Public] = {}
    for module, names in homes.items():
        defined = {node.name: node for node in _parsed(module).body if isinstance(node, Definition)}
        found |= {name: Public(name, module, defined[name]) for name in names if name in defined}
    return found


def documented_names(*, examples: bool = False) -> list[str]:
    """The names on the page, methods as Class.method; only those with examples, if asked for."""
    names = []
    for public in public_names().values():
        for name, node in [(public.name, public.node), *_members(public)]:
            if not examples or ">>> " in (ast.get_docstring(node) or ""):
                names.append(name)
    return names


def page() -> str:
    """The text of docs/api.md."""
    names = public_names()
    errors = [name for name, public in names.items() if public.module == "birder.errors"]
    placed = {name for section in SECTIONS.values() for name in section} | set(errors)
    if missing := sorted(names.keys() - placed):
        raise SystemExit(f"docs/make_api.py: say in SECTIONS where these stand: {', '.join(missing)}")
    parts = [_INTRODUCTION]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in section:
            parts += _entry(names[name])
    parts.append("## Errors\n")
    parts.append("Every error that Birder raises on purpose is a `BirderError`; a kind of error is a class.\n")
    parts.append("\n".join(_error_line(names[name]) for name in errors) + "\n")
    return "\n".join(parts)


def _entry(public: Public) -> Iterator[str]:
    yield f"### birder.{public.name}\n"
    yield from _body(public.name, public.node)
    for name, node in _members(public):
        yield f"#### {name}\n"
        yield from _body(name, node)


def _body(name: str, node: Definition) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        if _is_property(node):
            yield f"*Property*: `{ast.unparse(node.returns) if node.returns else 'Any'}`\n"
        else:
            yield f"```text\n{_signature(name, node)}\n```\n"
    yield from _markdown(ast.get_docstring(node) or "")


def _markdown(docstring: str) -> Iterator[str]:
    """A docstring in numpy's style as Markdown."""
    text, *sections = _HEADING.split(docstring)
    yield f"{text.strip()}\n"
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title == "Examples":
            yield f"```pycon\n{body.strip()}\n```\n"
        elif title in _LISTED:
            yield f"**{title}**\n"
            yield "\n".join(_items(body)) + "\n"
        else:
            yield f"**{title}**: {' '.join(body.split())}\n"


def _items(body: str) -> Iterator[str]:
    """The entries of a section of parameters, attributes or errors as a list."""
    for entry in re.split(r"\n(?=\S)", body.strip()):
        name, _, text = entry.partition("\n")
        yield f"- `{name.strip()}`: {' '.join(inspect.cleandoc(text).split())}"


def _members(public: Public) -> list[tuple[str, Definition]]:
    """Public methods and properties of a class: its own, and those of private bases in its module."""
    if not isinstance(public.node, ast.ClassDef) or public.module == "birder.errors":
        return []
    bases = {ast.unparse(base) for base in public.node.bases if ast.unparse(base).startswith("_")}
    private = [node for node in _parsed(public.module).body if isinstance(node, ast.ClassDef) and node.name in bases]
    return [
        (f"{public.name}.{node.name}", node)
        for each in (public.node, *private)
        for node in each.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not _is_overload(node)
    ]


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """A function as it is called; over several lines if it is long."""
    arguments = node.args
    assert not arguments.posonlyargs
    plain = [each for each in arguments.args if each.arg not in ("self", "cls")]
    required = len(arguments.args) - len(arguments.defaults)
    defaults = dict(zip((each.arg for each in arguments.args[required:]), arguments.defaults, strict=True))
    parts = [_argument(each, defaults.get(each.arg)) for each in plain]
    if arguments.vararg is not None:
        parts.append(f"*{_argument(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [_argument(each, value) for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg is not None:
        parts.append(f"**{_argument(arguments.kwarg, None)}")
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    whole = f"{name}({', '.join(parts)}){returns}"
    if len(whole) <= 100:
        return whole
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{lines}){returns}"


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation is not None else ""
    return f"{argument.arg}{kind}" + (f" = {ast.unparse(default)}" if default is not None else "")


def _error_line(public: Public) -> str:
    assert isinstance(public.node, ast.ClassDef)
    bases = ", ".join(ast.unparse(base).removeprefix("builtins.") for base in public.node.bases)
    first = (ast.get_docstring(public.node) or "").partition("\n")[0]
    return f"- `{public.name}` ({bases}): {first}"


def _is_property(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each) in ("property", "functools.cached_property") for each in node.decorator_list)


def _is_overload(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(each) == "overload" for each in node.decorator_list)


@cache
def _parsed(module: str) -> ast.Module:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def _assigned(module: ast.Module, name: str) -> dict[str, list[str]]:
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            value: dict[str, list[str]] = ast.literal_eval(node.value)
            return value
    raise LookupError(name)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    sys.stdout.write(f"Wrote {PAGE.relative_to(ROOT)}.\n")
