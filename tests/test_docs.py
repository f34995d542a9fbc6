"""The documents: what they name in Python is there, and they show no folder of whoever wrote them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"^\s*from (birder[\w.]*) import ([\w, ]+)$", re.MULTILINE)
CALL = re.compile(r"(?<![\w./-])birder\.(\w+(?:\.\w+)*)\(")
CHILD = """
import importlib, sys
for name in sys.argv[1:]:
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            print(name, error)
            break
"""


def names_in(text: str) -> set[str]:
    """What a page names of the package, as module:attribute; `birder.a.b` is what `import birder` alone must give."""
    blocks = PYTHON.findall(text)
    imported = ((module, names) for block in blocks for module, names in IMPORT.findall(block))
    found = {f"{module}:{name.strip()}" for module, names in imported for name in names.split(",")}
    if re.search(r"^birder = ", text, re.MULTILINE):  # a page that calls something else so
        return found
    for code in [*blocks, *re.findall(r"`([^`\n]+)`", PYTHON.sub("", text))]:
        found |= {f"birder:{name}" for name in CALL.findall(code)}
    return found


def test_what_the_documents_name_is_there() -> None:
    names = sorted(set().union(*(names_in(page.read_text("utf-8")) for page in PAGES)))
    assert len(names) > 10
    # A fresh interpreter: here others have imported modules, which then are attributes of the package.
    done = subprocess.run([sys.executable, "-c", CHILD, *names], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_the_documents_show_no_folder_of_their_writers() -> None:
    mine = re.compile(r"(?<![\w.])/(?:work|root|tmp|Users|home/(?!me/))[\w./-]*")
    shown = [f"{page.name}: {found}" for page in PAGES for found in mine.findall(page.read_text("utf-8"))]
    assert shown == []
