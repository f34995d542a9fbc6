"""`path` in filters: the readable form of `uri`, which no table stores.

A filter compares `path` with texts; each comparison becomes one of `uri`, so that nothing has to be stored, moved along
or read twice. Equality becomes a list of the uris that have this path, which an index finds. Patterns become a regular
expression that reads a percent-encoded character as one character: a plain LIKE on `uri` would find %C3 in "ö", and
count "ö" as six characters. It takes one pass over the uris, in linear time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

if TYPE_CHECKING:
    from birder.collection.filter_dialect import Token, exp

PATH = "path"
COMPARED = "=, <>, IN, LIKE, ILIKE, IS NULL, starts_with, ends_with and contains"
"""What a filter may do with `path`."""

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~/")
_IN_FRAGMENT = ":=,&"  # as a box and the time of a frame have them; the name of a shard's member has them encoded
_TAIL = r"%[89ABab][0-9A-Fa-f]"
_ONE = (
    rf"(?:[^%]|%[0-7][0-9A-Fa-f]|%[CDcd][0-9A-Fa-f]{_TAIL}|%[Ee][0-9A-Fa-f](?:{_TAIL}){{2}}"
    rf"|%[Ff][0-7](?:{_TAIL}){{3}})"
)
_ANY = r"(?:[^%]|%[0-9A-Fa-f][0-9A-Fa-f])*"
_OF_FUNCTION = {"starts_with": (False, True), "ends_with": (True, False), "contains": (True, True)}


class Unsupported(ValueError):
    """A filter does with `path` what cannot be said of `uri`; `place` is where it names it."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def is_path(node: exp.Column) -> bool:
    """Whether an expression is the column `path`; a field inside a column of that name is not."""
    first = node.parts[0]
    is_quoted = bool(first.args.get("quoted"))
    return len(node.parts) == 1 and (first.name if is_quoted else first.name.lower()) == PATH


def said_of_uris(nodes: Sequence[exp.Expr], tokens: Sequence[Token]) -> dict[int, str]:
    """What stands in a filter in place of its comparisons of `path`.

    Parameters
    ----------
    nodes, tokens
        The filter, parsed.

    Returns
    -------
    SQL for the tokens that begin at these places: all of a comparison at its first, nothing at the others.

    Raises
    ------
    Unsupported
        `path` stands elsewhere.
    """
    from birder.collection.filter_dialect import exp

    number_of = {token.start: number for number, token in enumerate(tokens)}
    found: dict[int, str] = {}
    for node in nodes:
        if not (isinstance(node, exp.Column) and is_path(node)):
            continue
        start = node.parts[0].meta["start"]
        first, last, sql = _compared(node, number_of, number_of[start], tokens)
        found |= {token.start: "" for token in tokens[first : last + 1]}
        found[tokens[first].start] = sql
    return found


def _compared(
    column: exp.Column, number_of: dict[int, int], place: int, tokens: Sequence[Token]
) -> tuple[int, int, str]:
    """The numbers of the first and last token of a comparison with `path`, and what it says of uris."""
    from birder.collection.filter_dialect import TokenType, exp

    node = column.parent
    refused = Unsupported(tokens[place].start)

    def end_of(literal: exp.Expr | None) -> int:
        if not isinstance(literal, exp.Literal) or not literal.is_string:
            raise refused
        return number_of[literal.meta["start"]]

    def negated(first: int, last: int) -> bool:
        kinds = [token.token_type for token in tokens[first:last]]
        if TokenType.L_PAREN in kinds:
            raise refused
        return TokenType.NOT in kinds

    if isinstance(node, exp.Is) and node.this is column:
        return place, place, "uri"
    if isinstance(node, exp.EQ | exp.NEQ):
        other = node.expression if node.this is column else node.this
        first, last = sorted((place, end_of(other)))
        negated(first, last)
        return first, last, _listed([other.this], isinstance(node, exp.NEQ))
    if isinstance(node, exp.Like | exp.ILike) and node.this is column:
        last = end_of(node.expression)
        sql = _matching(_of_like(node.expression.this), isinstance(node, exp.ILike), negated(place, last))
        if isinstance(node.parent, exp.Escape):
            if end_of(node.parent.expression) != last + 2 or node.parent.expression.this != "\\":
                raise refused
            last += 2
        return place, last, sql
    if isinstance(node, exp.In) and node.this is column:
        last = max(map(end_of, node.expressions))
        texts = [each.this for each in node.expressions]
        opened = next(n for n in range(place, last) if tokens[n].token_type is TokenType.L_PAREN)
        return place, last + 1, _listed(texts, negated(place, opened))
    if isinstance(node, exp.Anonymous) and str(node.this).lower() in _OF_FUNCTION and len(node.expressions) == 2:
        before, after = _OF_FUNCTION[str(node.this).lower()]
        last = end_of(node.expressions[1])
        if last != place + 2 or node.expressions[0] is not column:
            raise refused
        parts = [_ANY] * before + list(node.expressions[1].this) + [_ANY] * after
        return place - 2, last + 1, _matching(parts, False, False)
    raise refused


def _listed(paths: Iterable[str], negated: bool) -> str:
    uris = dict.fromkeys(uri for path in paths for uri in uris_of(path))
    return f"uri {'NOT ' if negated else ''}IN ({', '.join(map(_quoted, uris))})"


def uris_of(path: str) -> Iterator[str]:
    """The uris that `birder.sources.readable_path` gives this path for, as far as Birder writes them.

    What is not a file has its uri for a path.
    """
    yield path
    if re.match(r"[A-Za-z]:/", path):
        yield from (f"file:///{path[:2]}{each}" for each in encodings(path[2:]))
    else:
        start = "file:" if path.startswith("//") else "file://"
        yield from (start + each for each in encodings(path))


def encodings(path: str) -> Iterator[str]:
    """A path, or its end, as uris may have it: behind each # there may be a part of the file that is before it."""
    if "\0" in path:
        return
    yield _encoded(path)
    for found in re.finditer("#", path):
        file, part = _encoded(path[: found.start()]), path[found.end() :]
        member, ampersand, box = part.rpartition("&")
        yield f"{file}#{_encoded(part)}"
        yield f"{file}#{_encoded(part, _IN_FRAGMENT)}"
        if ampersand:
            yield f"{file}#{_encoded(member)}&{_encoded(box, _IN_FRAGMENT)}"


def _encoded(text: str, safe: str = "") -> str:
    return quote_from_bytes(os.fsencode(text), safe="/" + safe)


def _of_like(pattern: str) -> list[str]:
    r"""The characters of a LIKE pattern; `_` and `%` as the expressions for any one and any; behind \ a character."""
    parts = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            parts.append(next(characters, "\\"))
        else:
            parts.append({"_": _ONE, "%": _ANY}.get(character, character))
    return parts


def _as_like(parts: Sequence[str]) -> str:
    """The pattern that `_of_like` read."""
    return "".join(
        {_ONE: "_", _ANY: "%"}.get(each) or (f"\\{each}" if each in ("%", "_", "\\") else each) for each in parts
    )


def _matching(parts: Sequence[str], ignore_case: bool, negated: bool) -> str:
    """SQL that matches the paths of uris with characters and expressions for several."""
    begin = "".join(parts[:2])
    of_drive = re.fullmatch("[A-Za-z]:", begin) or begin == _ONE + ":"
    start = "file:///" if of_drive else "file:" if begin == "//" else "file://"
    inside = [each if each in (_ONE, _ANY) else _character(each, ignore_case) for each in parts]
    if begin == "//" and parts[2:3] == [_ANY]:
        inside.insert(2, "[^/]")  # of a server
    like = "ILIKE" if ignore_case else "LIKE"
    expression = f"^{start}{''.join(inside)}$"
    sql = (
        f"(regexp_like(uri, {_quoted(expression)}) "
        f"OR (uri {like} {_quoted(_as_like(parts))} AND NOT starts_with(uri, 'file://')))"
    )
    return f"(NOT {sql})" if negated else sql


def _character(character: str, ignore_case: bool) -> str:
    """An expression for a character, plain or percent-encoded."""
    forms = []
    for each in _cases(character) if ignore_case else [character]:
        forms.append(each if each.isalnum() or each == "/" else f"\\x{{{ord(each):x}}}")
        if each not in _PLAIN:
            encoded = "".join(f"%{byte:02X}" for byte in os.fsencode(each))
            forms.append(encoded if encoded == encoded.lower() else f"(?i:{encoded})")
    return forms[0] if len(forms) == 1 else f"(?:{'|'.join(forms)})"


def _cases(character: str) -> list[str]:
    each = [character, character.lower(), character.upper()]
    return list(dict.fromkeys(form for form in each if len(form) == 1))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
