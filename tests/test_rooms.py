"""The rooms of the house stand on those below them: no import runs up, none runs in a circle, one room knows LanceDB.

Every import counts: those within functions and those for type checkers alone are dependencies as well.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS: list[tuple[str, ...]] = [
    ("birder.__main__",),
    ("birder.cli",),
    ("birder.common", "birder.conf", "birder.model_registry"),  # names that code of the published package imports
    ("birder",),  # the public names
    ("birder.server",),
    ("birder.web",),
    tuple(
        f"birder.collection.{name}"
        for name in (
            "adapting",
            "api",
            "benchmarking",
            "clip_training",
            "comparing",
            "detecting",
            "detector_training",
            "drawing",
            "evaluating",
            "functions",
            "judged_rows",
            "keys",
            "labelled_data",
            "nearest_labels",
            "notebook",
            "predicting",
            "progress",
            "reproducing",
            "results",
            "searching",
            "sequencing",
            "training",
        )
    ),
    ("birder.plots",),
    ("birder.learning",),
    ("birder.evaluation",),
    ("birder.analysis",),
    ("birder.naming",),
    ("birder.pipeline",),
    ("birder.formats",),
    ("birder.collection",),
    ("birder.sources",),
    ("birder.inference",),
    ("birder.weights",),
    ("birder.images",),
    ("birder.registry",),
    ("birder.net",),
    ("birder.taxonomy",),
    (
        "birder.errors",
        "birder.version",
        "birder.extras",
        "birder.files",
        "birder.many_objects",
        "birder.faiss_threads",
        "birder.vectors",
        "birder.words",
    ),
]
"""From top to bottom; modules of one line may import one another."""
STORES = {"lancedb", "lance"}
OWNER = "birder.collection"
parsed = functools.cache(ast.parse)
Sources = Mapping[str, str]
"""The source of each module by its name."""


def sources_of(package: Path) -> dict[str, str]:
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file.read_text("utf-8")
    return found


def imported(source: str, module: str, known: Iterable[str] = ()) -> set[str]:
    """The modules that a source imports, anywhere in it; of `from a import b`, a.b if that is known to be a module."""
    known = set(known)
    found: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                home = ".".join([*above, *([home] if home else [])])
            for alias in node.names:
                inner = f"{home}.{alias.name}"
                found.add(inner if inner in known else home)
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value)
    return found - {module}


def called(node: ast.Call) -> str | None:
    function = node.func
    return (
        function.attr
        if isinstance(function, ast.Attribute)
        else function.id
        if isinstance(function, ast.Name)
        else None
    )


def imports_within(sources: Sources) -> dict[str, set[str]]:
    """Which of the modules each of them imports."""
    return {module: imported(source, module, sources) & sources.keys() for module, source in sources.items()}


def room_of(module: str) -> int:
    """The number of the room that a module is in, counted from the top."""
    fitting = [
        (len(name), number)
        for number, names in enumerate(ROOMS)
        for name in names
        if module == name or (name != "birder" and module.startswith(f"{name}."))
    ]
    assert fitting, f"{module} is in no room of tests/test_rooms.py: say where it stands"
    return max(fitting)[1]


def upward_imports(sources: Sources) -> list[str]:
    return [
        f"{module} imports {other}"
        for module, others in imports_within(sources).items()
        for other in sorted(others)
        if room_of(other) < room_of(module)
    ]


def store_imports(sources: Sources) -> list[str]:
    """Imports of LanceDB or Lance by modules outside of their owner's room."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        if module != OWNER and not module.startswith(f"{OWNER}.")
        for name in sorted(imported(source, module))
        if name.split(".")[0] in STORES
    ]


def table_uses(sources: Sources) -> list[str]:
    """Uses outside of the owner's room of what `Storage` keeps to itself."""
    private = {"_images", "_table", "_failures", "_async_rows"}
    return [
        f"{module}, line {node.lineno}"
        for module, source in sources.items()
        if not module.startswith(OWNER)
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Attribute)
        and node.attr in private
        and isinstance(node.value, ast.Name)
        and node.value.id in ("collection", "storage", "opened")
    ]


def circles(sources: Sources) -> list[list[str]]:
    """Modules that import one another in a circle (Tarjan's strongly connected components)."""
    graph = imports_within(sources)
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in numbers:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], numbers[other])
        if lowest[module] == numbers[module]:
            place = stack.index(module)
            circle = sorted(stack[place:])
            del stack[place:]
            if len(circle) > 1:
                found.append(circle)

    for module in graph:
        if module not in numbers:
            visit(module)
    return found


@pytest.fixture(scope="module")
def birder() -> dict[str, str]:
    sources = sources_of(ROOT / "birder")
    assert {"birder", "birder.collection.storage", "birder.net.vit"} <= sources.keys()
    return sources


@pytest.mark.slow
def test_no_import_runs_up(birder: dict[str, str]) -> None:
    assert upward_imports(birder) == []


def test_only_the_collection_imports_lancedb(birder: dict[str, str]) -> None:
    assert store_imports(birder) == []
    assert any("lancedb" in imported(source, module) for module, source in birder.items()), "the owner does"


def test_nobody_else_uses_the_tables_of_storage(birder: dict[str, str]) -> None:
    assert table_uses(birder) == []


def test_no_modules_import_one_another_in_a_circle(birder: dict[str, str]) -> None:
    assert circles(birder) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import birder.server.app",
        "from birder.server.app import create_app",
        "from birder.server import app",
        "from ..server import app",
        "def later() -> None:\n    from birder.server import app",
        "if TYPE_CHECKING:\n    from birder.server.app import Site",
        "import importlib\nimportlib.import_module('birder.server.app')",
    ],
)
def test_an_import_that_runs_up_is_found_wherever_it_stands(statement: str) -> None:
    sources = {"birder.formats.table": statement, "birder.server.app": "", "birder.server": ""}
    assert len(upward_imports(sources)) == 1
    down = {
        "birder.cli.table": statement.replace("..server", "birder.server"),
        "birder.server.app": "",
        "birder.server": "",
    }
    assert upward_imports(down) == []


def test_the_facade_stands_above_the_rooms_that_it_offers() -> None:
    sources = {"birder.collection.api": "from birder.plots import page", "birder.plots.page": "", "birder.plots": ""}
    assert upward_imports(sources) == []
    sources = {"birder.collection.labels": "from birder.collection.api import Collection", "birder.collection.api": ""}
    assert upward_imports(sources) == ["birder.collection.labels imports birder.collection.api"]


def test_a_module_that_is_in_no_room_is_told() -> None:
    with pytest.raises(AssertionError, match=r"birder\.attic is in no room"):
        upward_imports({"birder.attic": "import birder.errors", "birder.errors": ""})


@pytest.mark.parametrize(
    "statement",
    [
        "import lancedb",
        "import lancedb as db",
        "from lancedb.table import Table",
        "def f():\n    import lance.fragment",
    ],
)
def test_a_store_imported_by_another_room_is_found(statement: str) -> None:
    assert len(store_imports({"birder.analysis.stats": statement})) == 1
    assert store_imports({"birder.collection.disk": statement}) == []
    assert store_imports({"birder.analysis.stats": "import lanceolate; from birder.collection import lancedb"}) == []


def test_a_table_used_by_another_room_is_found() -> None:
    assert table_uses({"birder.naming.x": "collection._images.search()"}) == ["birder.naming.x, line 1"]


def test_a_circle_is_found_with_all_its_modules() -> None:
    sources = {
        "birder.collection.a": "import birder.collection.b",
        "birder.collection.b": "def later():\n    from birder.collection import c",
        "birder.collection.c": "if TYPE_CHECKING:\n    from birder.collection.a import A",
        "birder.collection.d": "import birder.collection.a",
    }
    assert circles(sources) == [["birder.collection.a", "birder.collection.b", "birder.collection.c"]]
    assert circles(sources | {"birder.collection.c": ""}) == []
