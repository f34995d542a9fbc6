"""LanceDB without the client of remote namespaces, whose import takes longer than all the rest of LanceDB's.

LanceDB imports the types of requests to a catalogue server, and Python runs the package that they are in first: it
builds the client of that server, some half a second of a processor. Birder's collections are folders. The package is
entered as if it had been run, and is run when something asks it for a name.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

_CLIENT = "lance_namespace_urllib3_client"


def postpone() -> None:
    """Run the package of the client at the first use of one of its names; nothing happens if it has been imported."""
    spec = None if _CLIENT in sys.modules else importlib.util.find_spec(_CLIENT)
    if spec is None or spec.loader is None:
        return
    module, loader = importlib.util.module_from_spec(spec), spec.loader

    def run_first(name: str) -> Any:
        if name.startswith("__"):  # what Python asks of any module
            raise AttributeError(name)
        del module.__dict__["__getattr__"]
        loader.exec_module(module)
        return getattr(module, name)

    module.__dict__["__getattr__"] = run_first
    sys.modules[_CLIENT] = module
