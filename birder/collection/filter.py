"""Conditions: what users write after WHERE, checked before LanceDB sees it.

LanceDB parses an expression and nothing else, but what comes behind it (`; DROP TABLE images`) it leaves unread without
a word, it panics at placeholders, overflows its stack on a sum of a thousand terms, and compares no time with a text.
So a condition is read here first: what is no filter is refused, and texts beside columns of time become times.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from birder.errors import CollectionError

MAX_LENGTH = 1_000_000
_MAX_TERMS = 500  # joined by AND and OR, in the whole condition
_MAX_WORDS = (
    100  # of one term with all that is in its brackets, values not counted: LanceDB's stack bears some hundreds
)
_MAX_ALL_WORDS = 2_000  # of the whole condition, values not counted
_MAX_BRACKETS = 20  # inside one another: LanceDB's parser bears 23, and takes hours at 50
FUNCTIONS = (
    *("abs", "array_has", "cast", "char_length", "coalesce", "concat", "contains", "date_part", "date_trunc"),
    *("ends_with", "isnan", "length", "lower", "nullif", "regexp_like", "round", "sqrt", "starts_with", "strpos"),
    *("to_timestamp", "upper"),
)
"""Functions that conditions may use."""
_BEFORE_BRACKET = {"and", "or", "not", "in", "between", "like", "ilike", "is", "escape"}
_COMPARISONS = {"=", "!=", "<>", "<", "<=", ">", ">="}
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    |(?P<word>[^\W\d]\w*)
    |(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
    |(?P<operator><>|!=|<=|>=|\|\||::|[-+*/%=<>(),.\[\]])""",
    re.VERBOSE,
)


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def low(self) -> str:
        return self.text.lower() if self.kind in ("word", "operator") else ""


def checked_condition(condition: str, columns: Mapping[str, pa.DataType]) -> str:
    """A condition as LanceDB can have it.

    Parameters
    ----------
    condition
        SQL: "family = 'Corvidae' AND taken_at >= '2024-05-01'".
    columns
        The columns and their Arrow types.

    Returns
    -------
    The same condition; texts that are compared with a column of time are times.

    Raises
    ------
    CollectionError
        It is empty, too long, more than a condition, uses a function that conditions do not have, or compares a time
        with what is none.
    """
    if len(condition) > MAX_LENGTH:
        raise _wrong(condition, f"it is longer than {MAX_LENGTH:,} characters")
    tokens = _tokens(condition)
    if not any(token.kind != "space" for token in tokens):
        raise _wrong(condition, "it is empty")
    solid = [i for i, token in enumerate(tokens) if token.kind != "space"]
    _check_size(condition, [tokens[i] for i in solid])
    _check_functions(condition, [tokens[i] for i in solid])
    times = {name.lower(): type_ for name, type_ in columns.items() if pa.types.is_timestamp(type_)}
    for place, type_ in _texts_beside_times([tokens[i] for i in solid], times):
        token = tokens[solid[place]]
        tokens[solid[place]] = _Token("time", _as_time(condition, token.text, type_))
    # In brackets nothing can stand behind the expression that the parser would leave unread.
    return f"({''.join(token.text for token in tokens)})"


def quoted(text: str) -> str:
    """A text as SQL has it: 'o''wl'."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def explained(condition: str | None, path: Path) -> Iterator[None]:
    """Say what is wrong with a condition, or with the collection in `path`, in place of LanceDB's many lines."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, ValueError | RuntimeError | OSError) and type(error).__name__ != "RustPanic":
            raise  # not LanceDB's; the class of its panics cannot be imported
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if condition is None or "_indices" in reason:
            raise CollectionError(
                f"{path} or its index is damaged ({reason[:300]}). Make the index again: birder index {path}; "
                "if that does not help, restore the collection from a copy."
            ) from error
        raise _wrong(condition, re.sub(r", \S+\.rs:\d+:\d+", "", reason)) from error


def _wrong(condition: str, why: str) -> CollectionError:
    shown = condition if len(condition) <= 200 else f"{condition[:200]}..."
    return CollectionError(f"The condition {shown!r} does not work: {why}. Write it as SQL: label = 'owl'")


def _tokens(condition: str) -> list[_Token]:
    tokens, place = [], 0
    while place < len(condition):
        found = None if condition.startswith(("--", "/*"), place) else _TOKEN.match(condition, place)
        if found is None:
            raise _wrong(condition, _why_unreadable(condition[place:]))
        tokens.append(_Token(str(found.lastgroup), found[0]))
        place = found.end()
    for token, following in itertools.pairwise(tokens):
        if token.kind in ("word", "number") and following.kind in ("text", "number", "word"):
            raise _wrong(condition, f"there is no space between {token.text} and {following.text}")  # N'owl' panics
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.low, 0)
        if depth < 0:
            break
    if depth:
        raise _wrong(condition, "its brackets do not match")
    return tokens


def _why_unreadable(rest: str) -> str:
    if rest[0] in "'\"`":
        return f"a quotation mark is not closed at {rest[:20]!r} (inside a text it is written twice: 'o''wl')"
    if rest[0] == ";" or rest.startswith(("--", "/*")):
        return f"it goes on after {rest[:2].strip()!r}, and a condition is all that may stand there"
    return f"{rest[0]!r} has no meaning there"


def _check_size(condition: str, tokens: list[_Token]) -> None:
    """Bound how deep the parsed condition can be: LanceDB walks it by recursion, and its stack ends the process.

    On the way from the root to any leaf there are at most all ANDs and ORs, and the words of one term together with
    those of the brackets that are open there.
    """
    terms = words = 0
    lengths, longest = [0], [0]  # of the term being read, and of the longest so far, for each open bracket
    for token in tokens:
        if token.low in ("and", "or"):
            terms += 1
            lengths[-1] = 0
        elif token.text in ("(", "["):
            lengths.append(0)
            longest.append(0)
        elif token.text in (")", "]") and len(lengths) > 1:
            lengths.pop()
            lengths[-1] += longest.pop() + 1
        elif token.kind not in ("text", "number") and token.text != ",":
            lengths[-1] += 1
            words += 1
        longest[-1] = max(longest[-1], lengths[-1])
        if len(lengths) > _MAX_BRACKETS + 1:
            raise _wrong(condition, f"it has more than {_MAX_BRACKETS} brackets inside one another")
        if terms > _MAX_TERMS or longest[-1] > _MAX_WORDS or words > _MAX_ALL_WORDS:
            raise _wrong(
                condition,
                f"it has more than {_MAX_TERMS} terms or {_MAX_ALL_WORDS:,} words, or a term of more than "
                f"{_MAX_WORDS} (values in a list do not count: label IN ('owl', 'lark', ...))",
            )


def _check_functions(condition: str, tokens: list[_Token]) -> None:
    for token, following in itertools.pairwise(tokens):
        if token.low == "select":
            raise _wrong(condition, "it asks another table, and a condition is about one row")
        if token.low == "case":
            raise _wrong(condition, "CASE is not supported: join conditions with AND and OR")
        if following.text == "(" and token.kind in ("word", "quoted"):
            name = token.text.strip('"`').lower()
            if name not in FUNCTIONS and (token.kind == "quoted" or name not in _BEFORE_BRACKET):
                raise _wrong(condition, f"there is no function {name!r}, only {', '.join(FUNCTIONS)}")


def _texts_beside_times(tokens: list[_Token], times: Mapping[str, pa.DataType]) -> list[tuple[int, pa.DataType]]:
    """Places of texts that are compared with a column of time, and the column's type."""
    padded = [*tokens, *([_Token("end", "")] * 6)]
    found = []
    for i, token in enumerate(tokens):
        if token.kind not in ("word", "quoted"):
            continue
        type_ = times.get(token.text.strip('"`').lower())
        if type_ is None or (i and tokens[i - 1].text == "."):
            continue
        places = []
        if i > 1 and tokens[i - 1].text in _COMPARISONS:
            places.append(i - 2)
        after = i + 1 + (padded[i + 1].low == "not")
        if padded[after].text in _COMPARISONS:
            places.append(after + 1)
        elif padded[after].low == "between":
            places.append(after + 1)
            if padded[after + 2].low == "and":
                places.append(after + 3)
        elif padded[after].low == "in":
            inside = after + 2
            while inside < len(tokens) and tokens[inside].text != ")":
                places.append(inside)
                inside += 1
        for place in places:
            said = place and padded[place - 1].low in ("timestamp", "date")  # the user has written the type already
            if padded[place].kind == "text" and not said:
                found.append((place, type_))
    return found


def _as_time(condition: str, text: str, type_: pa.DataType) -> str:
    try:
        moment = datetime.fromisoformat(text[1:-1].strip())
    except ValueError:
        raise _wrong(
            condition, f"{text} is no time; a day is '2024-05-01', a moment '2024-05-01T17:30' or with seconds"
        ) from None
    if moment.tzinfo is not None and type_.tz is None:
        raise _wrong(condition, f"{text} has a time zone, but that column has local time: leave the zone out")
    return f"timestamp '{moment.isoformat()}'"
