"""Names of shards as people write them: lists, patterns, braces and URLs, made into one name each."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator

from birder.errors import ConfigError
from birder.sources.source import is_url

_MOST = 100_000  # names that braces may make
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(-?\d+))?")


def expand_shards(names: str | Iterable[str]) -> tuple[str, ...]:
    """The shards that names stand for, in their order: `train/shard-{000000..000159}.tar`, `val/*.tar`, URLs.

    Parameters
    ----------
    names
        Files and URLs. Braces as a shell has them: `{a,b}`, `{000..159}`; files may also be patterns with * and ?,
        whose matches are sorted. Several may stand in one, separated by `::`.

    Raises
    ------
    ConfigError
        A file does not exist, a pattern matches nothing, or there is no name at all.
    """
    given = [names] if isinstance(names, str) else list(names)
    found: list[str] = []
    for name in (part for each in given for part in each.split("::") if part):
        for one in expand_braces(name):
            found += [one] if is_url(one) else _files(one)
    if not found:
        raise ConfigError("No shard is named: give files, patterns such as 'train/*.tar', or URLs.")
    return tuple(found)


def _files(name: str) -> list[str]:
    if os.path.isfile(name):  # noqa: PTH113 - as users write it
        return [name]
    matches = sorted(glob.glob(name)) if glob.has_magic(name) else []  # noqa: PTH207
    if matches:
        return matches
    what = "matches no file" if glob.has_magic(name) else "does not exist"
    raise ConfigError(f"The shard {name} {what}. Check the name, and quote it where the shell might change it.")


def expand_braces(text: str) -> list[str]:
    """The texts that one with braces stands for, as bash makes them; `ConfigError` beyond 100,000.

    A range keeps leading zeros: {08..10} is 08, 09, 10. Braces that hold neither a comma nor a range stay as they are.
    """
    found = []
    for each in _expanded(text):
        found.append(each)
        if len(found) > _MOST:
            raise ConfigError(f"{text} stands for more than {_MOST:,} names.")
    return found


def _expanded(text: str) -> Iterator[str]:
    """Expand the first braces that can be, then what follows them."""
    for start in (place for place, sign in enumerate(text) if sign == "{"):
        end = _closing(text, start)
        if end is None:
            continue
        choices = _choices(text[start + 1 : end])
        if choices is not None:
            for choice in choices:
                for rest in _expanded(text[end + 1 :]):
                    yield text[:start] + choice + rest
            return
    yield text


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return None


def _choices(inside: str) -> Iterable[str] | None:
    """What braces choose from; None if they hold neither a comma nor a range."""
    if (found := _RANGE.fullmatch(inside)) is not None:
        return _range(*found.groups())
    parts, depth, begin = [], 0, 0
    for place, sign in enumerate(inside):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append(inside[begin:place])
            begin = place + 1
    if not parts:
        return None
    return (each for part in [*parts, inside[begin:]] for each in _expanded(part))


def _range(first: str, last: str, step: str | None) -> Iterator[str]:
    padded = any(re.match(r"-?0\d", each) for each in (first, last))
    width = max(len(first), len(last)) if padded else 0
    begin, end = int(first), int(last)
    by = max(1, abs(int(step or 1)))
    for number in range(begin, end + 1, by) if begin <= end else range(begin, end - 1, -by):
        yield f"{number:0{width}d}"
