"""Run cases of the published package's own tests against this package; started by test_published_suite.py.

    python tests/peers/published_suite.py TESTS_FOLDER < cases, one a line: test_net.TestNet.test_net[vit_s32]

Prints a JSON object: case -> null if it passed, or the last line of what went wrong. The suite imports much that Birder
does not have. Whatever is missing becomes a stand-in that can be imported and named, and fails when it is used; two
have to be of some use:

- classes of detectors and pre-training networks know their task, because the registry's cases sort by it;
- `birder.net.GhostNet_v2`, on which the cases of inference happen to run, is our EfficientNet-Lite.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import types
import unittest
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import birder.net
from birder.net.efficientnet_lite import EfficientNetLite

TASKS = {
    "DetectionBaseNet": "object_detection",
    "MIMBaseNet": "masked_image_modeling",
    "SSLBaseNet": "self_supervised_learning",
}


class NotHere(type):
    """The class of stand-ins: they have any attribute, and cannot be called."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(f"{cls.__name__}.{name}")

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"Birder has no {cls.__name__}")


def stand_in(name: str) -> Any:
    task = TASKS.get(name.rpartition(".")[2])
    return NotHere(name, (), {} if task is None else {"task": task})


class MissingModule(types.ModuleType):
    __path__: Sequence[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return stand_in(f"{self.__name__}.{name}")


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what nobody else finds: parts of the published package, and libraries that only its tests need."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] not in ("birder", "requests", "torchvision", "sklearn", "webdataset"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return MissingModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class Parameterized:
    """As much of the library `parameterized` as the suite uses: a case's first parameter becomes part of its name."""

    @staticmethod
    def expand(cases: Iterable[Any]) -> Callable[[Callable[..., None]], None]:
        def of(function: Callable[..., None]) -> None:
            scope = sys._getframe(1).f_locals
            for case in cases:
                values = case if isinstance(case, tuple) else (case,)

                def run(self: unittest.TestCase, values: tuple[Any, ...] = values) -> None:
                    function(self, *values)

                for attribute in ("__unittest_skip__", "__unittest_skip_why__"):
                    if hasattr(function, attribute):
                        setattr(run, attribute, getattr(function, attribute))
                scope[f"{function.__name__}[{values[0]}]"] = run

        return of


def missing_names(module: types.ModuleType) -> None:
    """Let names that one of our modules lacks be imported from it."""

    def find(name: str) -> Any:
        full = f"{module.__name__}.{name}"
        if name.startswith("__"):
            raise AttributeError(name)
        return importlib.import_module(full) if hasattr(module, "__path__") else stand_in(full)

    vars(module)["__getattr__"] = find


def run(case: str) -> str | None:
    module_name, class_name, method = case.split(".", 2)
    test_class = getattr(importlib.import_module(module_name), class_name)
    result = unittest.TestResult()
    test_class(method).run(result)
    if result.testsRun != 1 or result.skipped:
        return f"skipped: {result.skipped}"
    problems = [*result.errors, *result.failures]
    return problems[0][1].strip().splitlines()[-1] if problems else None


def main() -> None:
    sys.meta_path.append(StandIns())
    parameterized: Any = types.ModuleType("parameterized")
    parameterized.parameterized = Parameterized
    sys.modules["parameterized"] = parameterized
    for name in ("birder.common.lib", "birder.net", "birder.net.base"):
        missing_names(importlib.import_module(name))
    birder.net.GhostNet_v2 = type(
        "GhostNet_v2",
        (EfficientNetLite,),
        {  # type: ignore[attr-defined]
            "__init__": lambda self, channels, classes, config: EfficientNetLite.__init__(self, channels, classes)
        },
    )
    sys.path.insert(0, sys.argv[1])
    outcomes = {}
    for case in sys.stdin.read().split():
        try:
            outcomes[case] = run(case)
        except Exception as error:
            outcomes[case] = f"{type(error).__name__}: {error}"
        print(case, outcomes[case] or "passed", file=sys.stderr, flush=True)
    json.dump(outcomes, sys.stdout)


if __name__ == "__main__":
    main()
