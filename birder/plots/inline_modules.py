"""JavaScript modules put together into one script, for pages that are one file."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import PurePosixPath
from posixpath import normpath

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[^"]+)";\n', flags=re.MULTILINE)
_TYPES = re.compile(r"^// @ts-check\n|^ */\*\*(?:[^*]|\*(?!/))*\*/\n", flags=re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:const|let|function|class) )", flags=re.MULTILINE)


def inline_modules(entry: str) -> str:
    """The text of a module of the package and of all that it imports, as one module without imports and type comments.

    The names at the top of the modules share one scope then, so no two of them may have the same.

    Parameters
    ----------
    entry
        The module's path below birder/, as in "plots/map_page.js".

    Raises
    ------
    ValueError
        The modules import each other in a circle.
    """
    texts: dict[str, str] = {}
    _collect(entry, texts, ())
    return "\n".join(texts.values())


def _collect(module: str, texts: dict[str, str], importing: tuple[str, ...]) -> None:
    """Add a module behind those that it imports."""
    if module in importing:
        raise ValueError(f"modules import each other in a circle: {' -> '.join([*importing, module])}")
    if module in texts:
        return
    text = (resources.files("birder") / module).read_text(encoding="utf-8")
    for imported in _IMPORT.findall(text):
        _collect(normpath(str(PurePosixPath(module).parent / imported)), texts, (*importing, module))
    texts[module] = _EXPORT.sub("", _TYPES.sub("", _IMPORT.sub("", text)))
