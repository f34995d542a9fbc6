"""What importing Birder costs, asserted on the modules that it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "lancedb", "pyarrow", "numpy", "pandas", "PIL", "huggingface_hub", "safetensors", "sklearn"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code."""
    script = f"import sys\n{code}\nsys.stderr.write(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_importing_birder_loads_nothing_heavy() -> None:
    loaded = modules_after("import birder; birder.list_pretrained_models(); dir(birder)")
    assert "birder" in loaded
    assert not loaded & (HEAVY | {"typer", "rich"})


@pytest.mark.slow
def test_a_documented_name_is_imported_when_it_is_used() -> None:
    assert "torch" in modules_after("import birder; birder.load_pretrained_model")


def test_reading_images_loads_no_pandas() -> None:
    """pyarrow does at the first value that is made of Python's, where pandas is installed."""
    assert "pandas" not in modules_after("import birder.pipeline.embed, birder.sources, birder.sources.table")


@pytest.mark.slow
def test_searching_by_vectors_loads_no_torch() -> None:
    assert "torch" not in modules_after("import birder.collection.searching, birder.collection.api")


@pytest.mark.slow
def test_opening_a_collection_builds_no_client_of_remote_namespaces() -> None:
    code = """
from birder.collection.storage import Storage
import lancedb, lance_namespace_urllib3_client as client
assert not any(name.startswith("lance_namespace_urllib3_client.api") for name in sys.modules)
assert client.ApiClient.__name__ == "ApiClient"  # which is there when it is asked for
"""
    assert "lancedb" in modules_after(code)


@pytest.mark.parametrize(
    "arguments",
    [[], ["embed"], ["similar"], ["failures"], ["classify"], ["models"], ["info"], ["fetch"]],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
sys.argv = ["birder", *{arguments!r}, "--help"]
from birder.cli import run
try:
    run()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""
    loaded = modules_after(code)
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_every_public_name_exists() -> None:
    import birder

    assert [name for name in birder.__all__ if not hasattr(birder, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = birder.no_such_name  # type: ignore[attr-defined]
