"""Which labels a classifier still needs, in words for the person who gives them."""

from __future__ import annotations

from collections.abc import Mapping

from birder.words import counted

FEWEST_LABELS = 5
"""The labels that a class needs before it is learned and judged."""
_NAMED = 4  # classes in a sentence


def wants(counts: Mapping[str, int]) -> str | None:
    """What a person should label next, as a sentence; None where every class has labels enough.

    Parameters
    ----------
    counts
        Class -> labelled rows.
    """
    short = sorted((count, name) for name, count in counts.items() if count < FEWEST_LABELS)
    enough = len(counts) - len(short)
    if not counts:
        return (
            f"It learns from your labels: give {FEWEST_LABELS} images or more of each class a label, of two classes or "
            "more, taken at different times or places."
        )
    if not short:
        return None if enough > 1 else f"Label images of another class as well, {FEWEST_LABELS} or more."
    names = ", ".join(f"{name} ({FEWEST_LABELS - count} more)" for count, name in reversed(short[-_NAMED:]))
    more = f" and {counted(len(short) - _NAMED, 'other class', 'other classes')}" if len(short) > _NAMED else ""
    needed = " Two classes are needed." if enough + len(short) < 2 else ""
    return f"It wants {FEWEST_LABELS} labels of each class. Still missing: {names}{more}.{needed}"


def can_learn(counts: Mapping[str, int]) -> bool:
    """Whether two classes have labels enough to be learned."""
    return sum(count >= FEWEST_LABELS for count in counts.values()) > 1
