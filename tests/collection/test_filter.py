"""What conditions may not say: nothing that passes the check may end the process that LanceDB runs in."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable

import pytest

from birder.collection.filter import checked_condition
from birder.collection.storage import Storage
from birder.errors import CollectionError
from tests.server.live import make

KILLER = ("1+case when 1=1 and 1=1 then 1 else 0 end" + "+1" * 90 + "+") * 28 + "1 > 0"
"""What ended the server: 6,200 characters whose ANDs made the check of a term's length begin anew."""

ASKING = """
import json, sys
from birder.collection.filter import checked_condition
from birder.collection.storage import Storage
from birder.errors import CollectionError
collection = Storage.open(sys.argv[1])
passed = answered = 0
for line in sys.stdin:
    where = json.loads(line)
    try:
        checked = checked_condition(where, collection.columns)
    except CollectionError:
        continue
    passed += 1
    print(where, file=sys.stderr, flush=True)
    try:
        collection.images.count_rows(checked)
        answered += 1
    except BaseException as error:
        assert isinstance(error, (ValueError, RuntimeError, OSError)) or type(error).__name__ == "RustPanic", error
print(json.dumps([passed, answered]))
"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return make(tmp_path_factory.mktemp("conditions"), 8)


class Grammar:
    """Makes up filters: most are right, some are hostile, and many are as large as the check lets pass."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def filter(self) -> str:
        kind = self._random.random()
        if kind < 0.75:
            return self._boolean(self._random.choice([1, 2, 3]))
        if kind < 0.95:
            return self._mangled(self._boolean(2))
        return self._large()

    def _boolean(self, depth: int) -> str:
        pick = self._random.random()
        if depth <= 0 or pick < 0.3:
            return self._random.choice(["night", "true", "not night", "label is null", "label in ('owl', 'fox')"])
        if pick < 0.55:
            joint = self._random.choice([" and ", " or "])
            return joint.join(self._boolean(depth - 1) for _ in range(self._random.choice([2, 2, 3, 3, 3, 30])))
        if pick < 0.65:
            return f"not ({self._boolean(depth - 1)})"
        if pick < 0.75:
            low, middle, high = (self._number(depth - 1) for _ in range(3))
            return f"{low} {self._random.choice(['', 'not '])}between {middle} and {high}"
        if pick < 0.85:
            return f"{self._text(depth - 1)} {self._random.choice(['=', 'like', 'ilike', '<'])} {self._text(depth - 1)}"
        if pick < 0.9:
            return f"{self._number(depth - 1)} in ({', '.join(self._number(0) for _ in range(50))})"
        return f"{self._number(depth - 1)} {self._random.choice(['=', '<', '>=', '<>'])} {self._number(depth - 1)}"

    def _number(self, depth: int) -> str:
        pick = self._random.random()
        if depth <= 0 or pick < 0.4:
            return self._random.choice(["1", "0", "-1", "1e308", "width", "height", "`Temp C`", "9223372036854775807"])
        if pick < 0.6:
            return f"{self._random.choice(['abs', 'sqrt', 'round'])}({self._number(depth - 1)})"
        if pick < 0.7:
            return f"cast({self._number(depth - 1)} as {self._random.choice(['int', 'double', 'string', 'date'])})"
        if pick < 0.8:
            return f"coalesce({self._number(depth - 1)}, {self._number(depth - 1)})"
        terms = [self._number(depth - 1) for _ in range(self._random.choice([2, 3, 3, 20]))]
        return self._random.choice([" + ", " - ", " * ", " / ", "%"]).join(terms)

    def _text(self, depth: int) -> str:
        if depth <= 0 or self._random.random() < 0.5:
            return self._random.choice(["label", "site", "uri", "'owl'", "'%'", "''", "'2024-05-01'", "null"])
        return self._random.choice(
            [
                f"lower({self._text(depth - 1)})",
                f"concat({self._text(depth - 1)}, {self._text(depth - 1)})",
                f"{self._text(depth - 1)} || {self._text(depth - 1)}",
                f"cast({self._number(depth - 1)} as string)",
            ]
        )

    def _mangled(self, where: str) -> str:
        """Words of a filter put in one another's places, or others in between."""
        words = where.split()
        for _ in range(self._random.choice([1, 2, 5])):
            odd = self._random.choice(
                ["case", "when", "end", "(", ")", "[", "]", "::int", "null", "x", "and", "''", "-"]
            )
            words.insert(self._random.randrange(len(words) + 1), self._random.choice([odd, self._random.choice(words)]))
        return " ".join(words)

    def _large(self) -> str:
        n = self._random.choice([5, 18, 20, 45, 95, 150, 480, 700])
        shapes: list[Callable[[], str]] = [
            lambda: " + ".join(["width"] * min(n, 60)) + " > 3",
            lambda: "width" + "+1" * n + " > 3",
            lambda: " and ".join(["width" + "+1" * 20 + " > 3"] * n),
            lambda: " or ".join(["width = 1 and night"] * n),
            lambda: "(" * n + "night" + ")" * n,
            lambda: "not (" * n + "night" + ")" * n,
            lambda: "not " * n + "night",
            lambda: "- " * n + "width < 1",
            lambda: "abs(" * n + "width" + ")" * n + " = 1",
            lambda: "coalesce(width, " * n + "width" + ")" * n + " = 1",
            lambda: "".join(f"(width = {i} and (height = {i} or " for i in range(n)) + "night" + "))" * n,
            lambda: "1+case when 1=1 and 1=1 then 1 else 0 end" + "+1" * n + " > 0",
            lambda: ("1+cast((1=1 and 1=1) as int)" + "+1" * 85 + "+") * (n // 5) + "1 > 0",
            lambda: "array_has([1=1 and 1=1, " * n + "night" + "], true)" * n,
            lambda: "width" + "::int" * n + " = 1",
            lambda: "night" + " is null" * n,
            lambda: "=".join(["night"] * n),
            lambda: "width between " * n + "1" + " and 2" * n,
            lambda: "||".join(["label"] * n) + " = 'x'",
            lambda: f"width in ({', '.join(['width+1'] * n)})",
            lambda: f"label in ({', '.join(['1'] * n * 50)})",
            lambda: "label" + "[0]" * n + " is null",
            lambda: "label" + ".a" * n + " is null",
            lambda: "concat(" + ", ".join(["label"] * n) + ") = 'x'",
        ]
        return self._random.choice(shapes)()


@pytest.mark.slow
def test_of_ten_thousand_filters_none_that_passes_the_check_ends_the_process(collection: Storage) -> None:
    grammar = Grammar(9)
    lines = "".join(json.dumps(grammar.filter()) + "\n" for _ in range(10_000))
    command = [sys.executable, "-c", ASKING, str(collection.path)]
    run = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=550)
    assert run.returncode == 0, f"ended with {run.returncode} at: {run.stderr[-3000:]}"
    passed, answered = json.loads(run.stdout)
    assert passed > 5_000 and answered > 2_000, (passed, answered)  # else nothing was tried


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (KILLER, "more than"),
        ("case when night then true else false end", "CASE is not supported"),
        ("(" * 21 + "night" + ")" * 21, "brackets inside one another"),
        ("not (" * 50 + "night" + ")" * 50, "brackets inside one another"),
        ("width + (" * 11 + "1 + width + 2 + width" + ") + width * 2 + width > 1" * 11, "a term of more than"),
        ("(width = 1 and width = 1) = " * 60 + "night", "a term of more than"),
        ("1 + abs(" + " and ".join(["width = 1"] * 502) + ") > 1", "more than 500 terms"),
        (" and ".join(["lower(upper(label)) = lower(upper(site))"] * 450), "2,000 words"),
    ],
)  # fmt: skip
def test_depth_and_length_are_bounded_for_the_condition_as_a_whole(
    collection: Storage, where: str, reason: str
) -> None:
    with pytest.raises(CollectionError, match=reason):
        checked_condition(where, collection.columns)


@pytest.mark.parametrize(
    "where",
    [
        " or ".join([f"label = 'l{n}'" for n in range(500)]),
        "(" * 20 + "width = 1" + ")" * 20,
        "not (" * 18 + " or ".join([f"(label = 'l{n}' and night)" for n in range(240)]) + ")" * 18,
        "width" + "+1" * 95 + " > 3 and (" + " or ".join(["width = 1"] * 400) + ")",
        f"label in ({', '.join(repr(str(n)) for n in range(20_000))}) and night",
    ],
)
def test_what_is_within_the_bounds_is_answered(collection: Storage, where: str) -> None:
    assert 0 <= collection.count(where) <= 8


@pytest.mark.slow
def test_the_filter_that_ended_the_process_is_told_in_a_line(collection: Storage) -> None:
    assert 6_200 < len(KILLER) < 6_400
    command = [sys.executable, "-m", "birder", "search", str(collection.path), "--where", KILLER]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1 and "does not work: it has more than" in run.stderr and "Traceback" not in run.stderr
