"""Filters: what they may not say, and that nothing which is accepted ends the process that LanceDB runs in."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.collection import filter as filter_module
from birder.collection.filter import Filter, as_filter, parse_filter, quoted
from birder.collection.filter_dialect import tokenize
from birder.collection.search import search
from birder.collection.storage import Storage
from birder.errors import BirderError, FilterError
from tests.cli.running import shared_session
from tests.factory import collection_of_images

KILLER = ("1+case when 1=1 and 1=1 then 1 else 0 end" + "+1" * 90 + "+") * 28 + "1 > 0"
"""What once ended the server: 6,200 characters whose ANDs restarted the measuring of a term."""

ASKING = """
import json, sys
from birder.collection.filter import parse_filter
from birder.collection.storage import Storage
from birder.errors import FilterError
collection = Storage.open(sys.argv[1])
passed = answered = 0
for line in sys.stdin:
    where = json.loads(line)
    try:
        accepted = parse_filter(where, collection.columns)
    except FilterError:
        continue
    passed += 1
    print(where, file=sys.stderr, flush=True)
    try:
        collection.count(accepted)
        answered += 1
    except FilterError:
        pass
print(json.dumps([passed, answered]))
"""

COLUMNS = {
    "label": pa.string(),
    "species": pa.string(),
    "order": pa.string(),
    "date": pa.string(),
    "width": pa.int32(),
    "night": pa.bool_(),
    "Temp C": pa.float64(),
    "taken_at": pa.timestamp("us"),
    "modified": pa.timestamp("us", tz="UTC"),
}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return collection_of_images(tmp_path_factory.mktemp("conditions"), 8)


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
def test_of_thousands_of_filters_none_that_is_accepted_ends_the_process(collection: Storage) -> None:
    grammar = Grammar(9)
    lines = "".join(json.dumps(grammar.filter()) + "\n" for _ in range(2_000))
    command = [sys.executable, "-c", ASKING, str(collection.path)]
    run = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=550)
    assert run.returncode == 0, f"ended with {run.returncode} at: {run.stderr[-3000:]}"
    passed, answered = json.loads(run.stdout)
    assert passed > 1_000 and answered > 400, (passed, answered)  # else nothing was tried


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (KILLER, "more than"),
        ("case when night then true else false end", "CASE is not supported"),
        ("(" * 21 + "night" + ")" * 21, "brackets, or 20 NOTs, inside one another"),
        ("not (" * 50 + "night" + ")" * 50, "brackets, or 20 NOTs, inside one another"),
        ("width + (" * 11 + "1 + width + 2 + width" + ") + width * 2 + width > 1" * 11, "a term of more than"),
        ("(width = 1 and width = 1) = " * 60 + "night", "a term of more than"),
        ("1 + abs(" + " and ".join(["width = 1"] * 502) + ") > 1", "more than 500 terms"),
        (" and ".join(["lower(upper(label)) = lower(upper(site))"] * 450), "2,000 words"),
    ],
)  # fmt: skip
def test_depth_and_length_are_bounded_for_the_filter_as_a_whole(collection: Storage, where: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        parse_filter(where, collection.columns)


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
def test_filters_within_the_bounds_are_answered(collection: Storage, where: str) -> None:
    assert 0 <= collection.count(where) <= 8


@pytest.mark.slow
def test_the_filter_that_ended_the_process_is_refused_in_one_line(collection: Storage) -> None:
    assert 6_200 < len(KILLER) < 6_400
    run = shared_session().run("search", collection.path, "--where", KILLER, code=2)
    assert "Invalid filter: it has more than" in run.stderr


def test_a_parsed_filter_says_what_it_reads_and_cannot_change() -> None:
    where = parse_filter("Label = 'owl' AND `Temp C` > 3 OR taken_at >= '2024-05-01'", COLUMNS)
    assert where.text == str(where) == "Label = 'owl' AND `Temp C` > 3 OR taken_at >= '2024-05-01'"
    assert where.sql == "(Label = 'owl' AND `Temp C` > 3 OR taken_at >= timestamp '2024-05-01T00:00:00')"
    assert where.columns == {"label", "Temp C", "taken_at"}
    with pytest.raises(FrozenInstanceError):
        where.sql = "true"  # type: ignore[misc]


def test_as_filter_takes_texts_and_parsed_filters_and_none() -> None:
    where = parse_filter("night", COLUMNS)
    assert as_filter(None, COLUMNS) is None
    assert as_filter(where, {}) is where  # parsed once
    assert as_filter("night", COLUMNS) == where


def test_a_search_parses_its_filter_once(collection: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = filter_module._parse

    def counted(text: str, columns: tuple[tuple[str, pa.DataType], ...]) -> Filter:
        parsed.append(text)
        return parse(text, columns)

    monkeypatch.setattr(filter_module, "_parse", counted)
    filter_module._parse_cached.cache_clear()
    row = search(collection, where="width > 0", k=1).to_list()[0]
    search(collection, ids=[row["id"]], where="width > 0 AND night", k=3)
    search(collection, where="width > 0 AND night", k=3)
    assert parsed == ["width > 0", "width > 0 AND night"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("specis = 'owl'", "Invalid filter: unknown column 'specis'. Did you mean 'species'?"),
        ("`Label` = 'owl'", "Invalid filter: unknown column 'Label'. Did you mean 'label'?"),
        ('label = "owl"', "Text stands in single quotation marks: 'owl'."),
        ("label = = 'owl'", "Invalid filter: syntax error at character 9, \"= 'owl'\"."),
        ("width = 5 or", "Invalid filter: syntax error at character 11, 'or'."),
        ("label = 'owl", "Invalid filter: a quotation mark is not closed at character 9"),
        ("`order = 'x'", "Invalid filter: a quotation mark is not closed at character 1,"),
        ("width = 1 /* x", "a comment is not closed at character 11"),
        ("{# x #} night", "comments are not allowed; there is one at character 1"),
        ("night -- x\n and false", "comments are not allowed; there is one at character 7"),
        ("{{ width }} = 1", "unexpected '{' at character 1"),
        ("width ! = 1", "unexpected '!' at character 7"),
        ("width & 1 = 1", "unexpected '&' at character 7"),
        ("label = x'00'", "a space is missing at character 10"),
        ("width > 3d", "a space is missing at character 10"),
        ("width > 1_000", "a space is missing at character 10"),
        ("width > \u0663", "unexpected '\u0663' at character 9"),
        ("label like 'a' 'b'", "is not supported"),
        ("(width, width) = (1, 2)", "'(width, width)' is not supported"),
        ("width in night", "'width IN night' is not supported"),
        ("label.* = 1", "'*' is not supported"),
        ("coalesce(width, *) = 1", "'*' is not supported"),
        ("abs(width as x) = 1", "at character 14, 'x) = 1'"),
        ("cast(width as decimal) = 1", "not a type that values can be cast to (BIGINT"),
        ("width::int[] is null", "not a type that values can be cast to (BIGINT"),
        ("cast(label as string format 'x') = 'x'", "syntax error|not supported"),
        ("label[0:1] is null", "unexpected ':'"),
        ("width between (select 1) and 2", "subqueries are not allowed"),
        ("sum(width) over () > 1", "unknown function 'sum'"),
        ("abs(width) over () > 1", "unknown function 'over'"),
        ("night and exists(night)", "unknown function 'exists'"),
        ("width is distinct from 1", "'width IS DISTINCT FROM 1' is not supported"),
        ("interval '1 day' is null", "syntax error"),
        ("label = 'x' limit 1", "syntax error at character 13"),
        ("not " * 21 + "night", "20 NOTs, inside one another"),
        ("modified > 'soon'", "'soon' is not a time"),
        ("(taken_at) > ('soon')", "'soon' is not a time"),
    ],
)  # fmt: skip
def test_an_invalid_filter_is_refused_with_the_place_of_the_error(where: str, message: str) -> None:
    with pytest.raises(FilterError) as error:
        parse_filter(where, COLUMNS)
    said = str(error.value)
    assert any(each in said for each in message.split("|")), said
    assert said.startswith("Invalid filter: ") and len(said) < 1_000 and "\n" not in said


@pytest.mark.parametrize(
    "where",
    [
        "order = 'Passeriformes' and date > '2024' and not date is null",
        "DATE '2024-01-01' < taken_at and taken_at < current_timestamp and current_date > taken_at",
        "width::int unsigned = 1 or cast(width as bigint) = 2",
        "array_has(array[1, 2], width) or array_has([1, 2], width)",
        "width == 1 or width <> 2 or width != 3",
        "label not like 'o%' escape '\\' and label not in ('a', null) and width not between 1 and 2",
        "night is true and night is not false is not null",
        "label = 'a\\' or label = '-- /* ; {{' or label = ''''",
        '"order" = "label" or `order` = lower("label")',
        "latitude > 1e1 or latitude > .5 or latitude > 1. or latitude > 1.5E-3",
        "- - width < 0 and not not night",
        "\twidth\n=\r\n1\u2003",
        "not " * 20 + "night",
    ],
)
def test_accepted_sql_reaches_lancedb_as_it_was_written(collection: Storage, where: str) -> None:
    columns = {**collection.columns, "date": pa.string()}
    parsed = parse_filter(where, columns)
    assert parsed.sql.split() == f"({where.strip()})".split()
    if "date >" not in where:
        assert 0 <= collection.count(where) <= 8


@given(st.text(st.sampled_from("ab1 '\"`.,()[]=<>!|:;-/*+%{}#$?@\\\n\0é"), max_size=30))
@settings(max_examples=1_000, deadline=None)
@pytest.mark.slow
def test_texts_of_any_symbols_are_read_whole_or_refused(where: str) -> None:
    try:
        parsed = parse_filter(where, {"a": pa.string(), "b": pa.int32(), "ab": pa.bool_()})
    except FilterError:
        return
    assert [(t.token_type, t.text) for t in tokenize(parsed.sql[1:-1])] == [
        (t.token_type, t.text) for t in tokenize(where)
    ]
    assert "".join(parsed.sql[1:-1].split()) == "".join(where.split())


@given(st.text(max_size=20))
@settings(deadline=None)
def test_any_text_can_be_quoted(text: str) -> None:
    parsed = parse_filter(f"label = {quoted(text)}", COLUMNS)
    assert parsed.columns == {"label"} and parsed.sql == f"(label = {quoted(text)})"


def test_a_deep_filter_is_parsed_in_a_thread_and_refused_where_the_stack_is_nearly_full() -> None:
    deep = "not coalesce(night, " * 20 + "night" + ")" * 20
    done: list[Filter] = []
    thread = threading.Thread(target=lambda: done.append(filter_module._parse(deep, tuple(COLUMNS.items()))))
    thread.start()
    thread.join()
    assert done

    def parse_below(depth: int) -> Filter:
        return filter_module._parse(deep, tuple(COLUMNS.items())) if depth == 0 else parse_below(depth - 1)

    with pytest.raises(FilterError, match="nested too deeply"):
        parse_below(500)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    [
        "(" * 200_000,
        "not " * 80_000,
        "[" * 20 + "{" * 100_000,
        "a" * 1_000_000,
        "'" * 999_999,
        "`" * 999_999,
        "abs(" * 40_000,
        "-" * 1_000_000,
        "- " * 160_000 + "width",
        "1" * 999_999,
        "/*" * 400_000,
        "width = 1 and " * 25_000,
        "case when " * 40_000,
        "array[" * 20 + "]" * 20,
        "cast(" * 20 + "width" + " as int)" * 20 + " = 1",
        "((((((((((((((((((((" + "a.b.c.d.e.f.g.h" + "))))))))))))))))))))",
        "[[[[[[[[[[[[[[[[[[[[" + "]]]]]]]]]]]]]]]]]]]]",
        "{" * 1_000 + "}" * 1_000,
        "a::int[" * 20 + "1" + "]" * 20,
        "x[" * 20 + "1" + "]" * 20 + " = 1",
        "date[" * 20 + "1" + "]" * 20 + " = 1",
        "(width, " * 20 + "1" + ")" * 20,
        "-(-" * 20 + "1" + ")" * 20,
        "width in (" * 20 + "1" + ")" * 20,
        "width between (" * 20 + "1" + ") and 2" * 20,
        "label like (" * 20 + "'x'" + ")" * 20,
        "night is (" * 20 + "true" + ")" * 20,
        "not (not " * 10 + "night" + ")" * 10,
        "coalesce((width), " * 10 + "1" + ")" * 10 + " = 1",
        "date (" * 20 + "1" + ")" * 20,
        "(night) (" * 20 + "1" + ")" * 20,
    ],
    ids=lambda where: f"{where[:12]}... of {len(where):,}",
)
def test_hostile_texts_are_refused_or_parsed_soon_and_never_end_in_a_recursion_error(where: str) -> None:
    begun = time.perf_counter()
    try:
        parse_filter(where, COLUMNS)
    except BirderError as error:
        assert isinstance(error, FilterError) and len(str(error)) < 1_000
    assert time.perf_counter() - begun < 10


@pytest.mark.slow
def test_modules_that_take_filters_import_sqlglot_only_for_a_filter() -> None:
    script = (
        "import sys; import birder.collection.search; assert 'sqlglot' not in sys.modules;"
        "from birder.collection.filter import parse_filter; import pyarrow as pa;"
        "parse_filter('a = 1', {'a': pa.int32()}); assert 'sqlglot' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
