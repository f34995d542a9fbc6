"""Filters: what users write after WHERE, parsed and checked once, before LanceDB sees it.

LanceDB silently ignores what follows `;`, panics at placeholders, overflows its stack on a sum of a thousand terms, and
does not compare times with texts. So a filter is read here first: its size is bounded, sqlglot parses it, and every
token, expression, function and column is looked up in a list of what is allowed. Texts that are compared with a column
of times become times.

LanceDB gets the tokens that were parsed, as they were written: what is not a token of the checked tree cannot reach it,
and how tightly operators bind stays DataFusion's decision, which sqlglot's tree may differ from.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from birder.collection.filter_path import COMPARED, PATH, Unsupported, is_path, said_of_uris
from birder.collection.schema import LABEL_SOURCE
from birder.errors import CollectionError, FilterError

if TYPE_CHECKING:
    from birder.collection.filter_dialect import Token, exp

FUNCTIONS = (
    *("abs", "array_has", "cast", "char_length", "coalesce", "concat", "contains", "date_part", "date_trunc"),
    *("ends_with", "isnan", "length", "lower", "nullif", "regexp_like", "round", "sqrt", "starts_with", "strpos"),
    *("to_timestamp", "upper"),
)
"""Functions that filters may use."""

MAX_LENGTH = 1_000_000
_MAX_TERMS = 500  # joined by AND and OR, in the whole filter
_MAX_WORDS = (
    100  # of one term with all that is in its brackets, values not counted: LanceDB's stack has room for some hundreds
)
_MAX_ALL_WORDS = 2_000  # of the whole filter, values not counted
_MAX_BRACKETS = 20  # nested: LanceDB's parser copes with 23, and takes hours at 50
_MAX_NOTS = 20  # nested: sqlglot takes nine Python frames for each
_NOW = frozenset(["current_date", "current_timestamp"])  # functions without brackets
_BEFORE_BRACKET = frozenset(["and", "or", "not", "in", "between", "like", "ilike", "is", "escape"])
_NAME = re.compile(r"[^\W\d]\w*")
_WORDS = re.compile(r"[\w\"`]")  # how a name, keyword or number begins
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_CACHED_LENGTH = 10_000  # characters
_NULL = "nullif('', '')"  # a text
_HINT = "A filter is an SQL expression: label = 'owl'"


@dataclass(frozen=True)
class Filter:
    """A filter that was parsed and checked: see `parse_filter`.

    Attributes
    ----------
    text
        As the user wrote it.
    sql
        As LanceDB gets it: an expression in brackets.
    columns
        The columns that it reads; uri for `path`.
    of_source
        Of a filter on `label_source`, `sql` with 'person' and with null in place of the column: see
        `birder.collection.filter_source`.
    """

    text: str
    sql: str
    columns: frozenset[str]
    of_source: tuple[str, str] | None = None

    def __str__(self) -> str:
        return self.text


def parse_filter(text: str, columns: Mapping[str, pa.DataType]) -> Filter:
    """Parse and check a filter.

    Parameters
    ----------
    text
        An SQL expression: "family = 'Corvidae' AND taken_at >= '2024-05-01'".
    columns
        The collection's columns and their Arrow types.

    Raises
    ------
    FilterError
        It is empty, too long or too deep, not a single expression, names an unknown column or function, uses an
        expression that is not allowed, or compares a time with a text that is not a time.
    """
    types = tuple(columns.items())
    return _parse_cached(text, types) if len(text) <= _CACHED_LENGTH else _parse(text, types)


def as_filter(where: str | Filter | None, columns: Mapping[str, pa.DataType]) -> Filter | None:
    """A filter that may be text, parsed or absent: see `parse_filter`."""
    return parse_filter(where, columns) if isinstance(where, str) else where


def quoted(text: str) -> str:
    """A text as an SQL literal: 'o''wl'."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def filter_errors(where: Filter | None, path: Path) -> Iterator[None]:
    """Turn LanceDB's errors into a `FilterError`, or without a filter into a `CollectionError` about `path`."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, ValueError | RuntimeError | OSError) and type(error).__name__ != "RustPanic":
            raise  # not LanceDB's; the class of its panics cannot be imported
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if where is None or "_indices" in reason:
            raise CollectionError(
                f"{path} or its index is damaged ({reason[:300]}). Rebuild the index: birder index {path}; "
                "if that does not help, restore the collection from a copy."
            ) from error
        said = re.sub(r", \S+\.rs:\d+:\d+", "", reason)[:500]
        raise _invalid(f"{said}, in {_shortened(where.text)}") from error


@functools.lru_cache(maxsize=256)
def _parse_cached(text: str, columns: tuple[tuple[str, pa.DataType], ...]) -> Filter:
    return _parse(text, columns)


def _parse(text: str, columns: tuple[tuple[str, pa.DataType], ...]) -> Filter:
    from birder.collection.filter_dialect import FilterSyntaxError, exp, parse, tokenize

    if len(text) > MAX_LENGTH:
        raise _invalid(f"longer than {MAX_LENGTH:,} characters")
    if not text.strip():
        raise _invalid(f"it is empty. {_HINT}")
    try:
        tokens = tokenize(text)
        _check_tokens(text, tokens)
        _check_size(text, tokens)
        _check_functions(text, tokens)
        nodes = list(parse(text, tokens).walk())
        _check_nodes(nodes)
    except FilterSyntaxError as error:
        raise _invalid(f"{error} {_at(text, error.place)}. {_HINT}") from None
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    types = dict(columns)
    names = {_column_of(node, types) for node in nodes if isinstance(node, exp.Column)}
    instead = {place: _as_time(value, type_) for place, value, type_ in _texts_beside_times(nodes, types)}
    if _has_path(types):
        try:
            instead |= said_of_uris(nodes, tokens)
        except Unsupported as error:
            raise _invalid(
                f"the column path can be compared with texts, by {COMPARED}; not so {_at(text, error.place)}. "
                "For more there is the column uri."
            ) from None
    sources = [
        node.parts[0].meta["start"]
        for node in nodes
        if isinstance(node, exp.Column) and _column_of(node, types) == LABEL_SOURCE
    ]
    of_source = None
    if sources:
        person, nothing = (_sql(text, tokens, instead | dict.fromkeys(sources, each)) for each in ("'person'", _NULL))
        of_source = person, nothing
    read = frozenset(name for name in names if name is not None)
    return Filter(text, _sql(text, tokens, instead), read, of_source)


def _has_path(types: Mapping[str, pa.DataType]) -> bool:
    """Whether `path` means the readable form of `uri`; a column that is called so comes first."""
    return "uri" in types and not any(name.lower() == PATH for name in types)


def _invalid(why: str) -> FilterError:
    return FilterError(f"Invalid filter: {why}")


def _shortened(text: str, length: int = 200) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}...")


def _at(text: str, place: int) -> str:
    """Say where in a text something is wrong."""
    return f"at character {place + 1}, {_shortened(text[place:], 40)}"


def _check_tokens(text: str, tokens: Sequence[Token]) -> None:
    """Refuse tokens that an expression does not have, and those that LanceDB's parser would split otherwise."""
    from birder.collection.filter_dialect import TOKENS, TokenType

    end, glued = 0, False
    for token in tokens:
        _check_gap(text, end, token.start)
        written = text[token.start : token.end + 1]
        is_text = token.token_type in (TokenType.STRING, TokenType.NATIONAL_STRING)
        is_word = _WORDS.match(written) is not None
        if glued and token.start == end and (is_text or is_word):
            raise _invalid(f"a space is missing {_at(text, end)}")  # LanceDB panics at N'owl'
        if token.token_type not in TOKENS or (
            (token.token_type is TokenType.VAR and not _NAME.fullmatch(written))
            or (token.token_type is TokenType.NUMBER and not _NUMBER.fullmatch(written))
        ):
            hint = ": a filter is a single expression" if written == ";" else ""
            raise _invalid(f"unexpected {_shortened(written, 20)} {_at(text, token.start)}{hint}")
        end, glued = token.end + 1, is_word
    _check_gap(text, end, len(text))


def _check_gap(text: str, start: int, end: int) -> None:
    """Refuse what sqlglot has left out between two tokens, unless it is blank."""
    if gap := text[start:end].strip():
        place = text.index(gap[0], start)
        raise _invalid(f"comments are not allowed; there is one {_at(text, place)}")


def _check_size(text: str, tokens: Sequence[Token]) -> None:
    """Bound how deep the parsed filter can be: LanceDB walks it by recursion, and its stack ends the process.

    On the way from the root to any leaf there are at most all ANDs and ORs, and the words of one term together with
    those of the brackets that are open there.
    """
    from birder.collection.filter_dialect import TokenType as Kind

    terms = words = 0
    lengths, longest = [0], [0]  # of the term being read, and of the longest so far, for each open bracket
    nots, opened = [0], list[int]()
    for token in tokens:
        if token.token_type in (Kind.AND, Kind.OR):
            terms += 1
            lengths[-1] = nots[-1] = 0
        elif token.token_type in (Kind.L_PAREN, Kind.L_BRACKET):
            lengths.append(0)
            longest.append(0)
            nots.append(0)
            opened.append(token.start)
        elif token.token_type in (Kind.R_PAREN, Kind.R_BRACKET):
            if not opened:
                raise _invalid(f"a bracket is closed that was not opened {_at(text, token.start)}")
            opened.pop()
            nots.pop()
            lengths.pop()
            lengths[-1] += longest.pop() + 1
        elif token.token_type not in (Kind.STRING, Kind.NUMBER, Kind.COMMA):
            lengths[-1] += 1
            words += 1
            nots[-1] += token.token_type is Kind.NOT
        longest[-1] = max(longest[-1], lengths[-1])
        if len(opened) > _MAX_BRACKETS or sum(nots) > _MAX_NOTS:
            raise _invalid(
                f"nested too deeply: more than {_MAX_BRACKETS} brackets, or {_MAX_NOTS} NOTs, inside one another"
            )
        if terms > _MAX_TERMS or longest[-1] > _MAX_WORDS or words > _MAX_ALL_WORDS:
            raise _invalid(
                f"it has more than {_MAX_TERMS} terms or {_MAX_ALL_WORDS:,} words, or a term of more than "
                f"{_MAX_WORDS} words. Values in a list do not count: label IN ('owl', 'lark', ...)"
            )
    if opened:
        raise _invalid(f"a bracket is not closed {_at(text, opened[-1])}")


def _check_functions(text: str, tokens: Sequence[Token]) -> None:
    from birder.collection.filter_dialect import TokenType as Kind

    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        written = text[token.start : token.end + 1]
        word = written.lower()
        if word == "select":
            raise _invalid("subqueries are not allowed: a filter is about one row")
        if word == "case":
            raise _invalid("CASE is not supported: combine filters with AND and OR")
        if following is not None and following.token_type is Kind.L_PAREN and _WORDS.match(written):
            name = token.text.lower()
            if name not in FUNCTIONS and (name not in _BEFORE_BRACKET or token.token_type is Kind.IDENTIFIER):
                raise _invalid(f"unknown function {name[:60]!r}. Known: {', '.join(FUNCTIONS)}")


def _check_nodes(nodes: Sequence[exp.Expr]) -> None:
    from birder.collection.filter_dialect import NODES

    for node in nodes:
        parts = NODES.get(type(node))
        if parts is None or any(value and name not in parts for name, value in node.args.items()):
            raise _invalid(f"{_shortened(node.sql(), 60)} is not supported. {_HINT}")


def _column_of(node: exp.Column, types: Mapping[str, pa.DataType]) -> str | None:
    """The column that an expression reads, or a field inside it; None for the present time.

    As in LanceDB, names in quotation marks are case-sensitive, and so are others that differ only in case.
    """
    if _has_path(types) and is_path(node):
        return "uri"
    first = node.parts[0]
    name, is_quoted = first.name, bool(first.args.get("quoted"))
    if name in types:
        return name
    if not is_quoted:
        if same := [each for each in types if each.lower() == name.lower()]:
            return same[0]
        if name.lower() in _NOW and len(node.parts) == 1:
            return None
    close = difflib.get_close_matches(name, list(types), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(types)}."
    if name.lower() in ("file", "file_name", "filename", "image", "name") and _has_path(types):
        hint = "The file's name is in the column 'path': path LIKE '%owl%'."
    text = f" Text stands in single quotation marks: {quoted(name[:60])}." if is_quoted else ""
    raise _invalid(f"unknown column {name[:60]!r}. {hint}{text}"[:900])


def _texts_beside_times(
    nodes: Sequence[exp.Expr], types: Mapping[str, pa.DataType]
) -> Iterator[tuple[int, str, pa.DataType]]:
    """Texts that are compared with a column of times: where each begins, what it says, and the column's type."""
    from birder.collection.filter_dialect import exp

    for node in nodes:
        if isinstance(node, exp.EQ | exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
            pairs = [(node.left, node.right), (node.right, node.left)]
        elif isinstance(node, exp.Between):
            pairs = [(node.this, node.args["low"]), (node.this, node.args["high"])]
        elif isinstance(node, exp.In):
            pairs = [(node.this, value) for value in node.expressions]
        else:
            continue
        for column, value in pairs:
            column, value = column.unnest(), value.unnest()
            if isinstance(column, exp.Column) and len(column.parts) == 1 and value.is_string:
                name = _column_of(column, types)
                if name is not None and pa.types.is_timestamp(types[name]):
                    yield value.meta["start"], value.this, types[name]


def _as_time(text: str, type_: pa.DataType) -> str:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise _invalid(
            f"{_shortened(text, 60)} is not a time. Write a day as '2024-05-01', a moment as '2024-05-01T17:30'"
        ) from None
    if moment.tzinfo is not None and type_.tz is None:
        raise _invalid(f"{text!r} has a time zone, but the column holds local time: leave the zone out")
    return f"timestamp '{moment.isoformat()}'"


def _sql(text: str, tokens: Sequence[Token], instead: Mapping[int, str]) -> str:
    """The tokens as they were written, with replacements for those that begin at these places.

    The brackets ensure that LanceDB's parser leaves nothing after the expression unread.
    """
    parts, end = [], 0
    for token in tokens:
        parts.append(" " if token.start > end > 0 else "")
        written = text[token.start : token.end + 1]
        parts.append(instead.get(token.start, written))
        end = token.end + 1
    return f"({''.join(parts)})"
