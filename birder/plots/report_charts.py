"""The charts of a report as SVG text: colours come from the page's style, so they follow light, dark and print."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

Point = tuple[float, float]

MOST_CLASSES = 60
"""Classes that a confusion matrix is drawn for; with more, its cells could not be told apart."""
_WIDTH, _HEIGHT = 460, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 14, 46
_MATRIX = 820  # pixels that a matrix takes where its cells are neither tiny nor huge
_LETTERS = 26  # of a class's name beside the matrix
_NUMBERED = 16  # up to so many classes, a cell has room for its number


def text(value: object) -> str:
    """Text that HTML and UTF-8 can have: markup and quotes escaped, lone surrogates replaced."""
    return html.escape(str(value).encode("utf-8", "replace").decode(), quote=True)


def percent(share: float, digits: int = 1) -> str:
    """A share as "86.4 %", with a space that does not break."""
    return f"{100 * share:.{digits}f}\u00a0%"


def interval(value: float, low: float | None, high: float | None, *, least: float = 0.0, most: float = 1.0) -> str:
    """A dot with its interval on a line from `least` to `most`; the numbers stand beside it in the table."""

    def at(number: float) -> float:
        return 6 + 128 * min(max((number - least) / ((most - least) or 1.0), 0.0), 1.0)

    whisker = ""
    if low is not None and high is not None:
        whisker = f'<line class="whisker" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="9" y2="9"/>'
    return (
        '<svg class="interval" viewBox="0 0 140 18" width="140" height="18" aria-hidden="true">'
        f'<line class="rail" x1="6" x2="134" y1="9" y2="9"/>{whisker}<circle cx="{at(value):.1f}" cy="9" r="4"/></svg>'
    )


def reliability(bins: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy against confidence, of the probabilities as given and before temperature, with the diagonal.

    Parameters
    ----------
    bins, before
        Each with `confidence`, `accuracy` and `n`; `before` may be empty.
    """
    body = [f'<line class="diagonal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for name, each in (("second", before), ("first", bins)):
        points = [(float(one["confidence"]), float(one["accuracy"])) for one in each if one["n"]]
        titles = [f"{percent(x)} sure: {percent(y)} right" for x, y in points]
        body += [_line(points, name), _dots(points, titles, name)]
    about = "; ".join(f"{percent(one['confidence'], 0)} sure, {percent(one['accuracy'], 0)} right" for one in bins)
    return _axes("".join(body), "How sure the model is", "How often it is right", f"Reliability diagram: {about}")


def risk_coverage(curve: Sequence[Mapping[str, Any]], marks: Sequence[tuple[str, float, float]]) -> str:
    """The share of names that are right against the share of images that get one, the surest first.

    Parameters
    ----------
    curve
        Each with `coverage` and `risk`, the share of wrong names.
    marks
        Points to name on the curve: what they say, coverage and precision.
    """
    points = sorted((float(each["coverage"]), 1 - float(each["risk"])) for each in curve)
    least = math.floor(10 * min([y for _, y in points] + [y for _, _, y in marks] + [0.9])) / 10
    body = [_line([(x, (y - least) / (1 - least)) for x, y in points], "first")]
    for said, x, y in marks:
        high = (y - least) / (1 - least)
        # The curve falls, so there is room above it on the right.
        place, anchor = (_x(1), "end") if x > 0.6 else (_x(x) + 8, "start")
        body.append(
            f'<g class="mark"><circle cx="{_x(x)}" cy="{_y(high)}" r="5"/>'
            f'<text x="{place:.1f}" y="{_y(high) - 9:.1f}" text-anchor="{anchor}">{text(said)}</text></g>'
        )
    about = "; ".join(said for said, _, _ in marks) or "no mark"
    return _axes(
        "".join(body),
        "Share of images that get a name, the surest first",
        "Names that are right",
        f"Risk-coverage curve: {about}",
        least,
    )


def precision_recall(curve: Sequence[float], name: str) -> str:
    """Precision against recall of a detector's boxes of one class; `curve` has it at evenly spaced recalls, 0 to 1."""
    points = [(place / (len(curve) - 1), share) for place, share in enumerate(curve)]
    half = curve[len(curve) // 2]
    about = f"Precision-recall curve of {name}: precision {percent(half)} at a recall of 50 %"
    return _axes(_line(points, "first"), "Boxes that are found (recall)", "Boxes that are right (precision)", about)


def bars(counts: Sequence[tuple[str, int]], what: str) -> str:
    """Horizontal bars with their names and numbers."""
    most = max([count for _, count in counts] + [1])
    total = sum(count for _, count in counts) or 1
    high = 26 * len(counts) + 4
    rows = []
    for place, (name, count) in enumerate(counts):
        y = 26 * place + 4
        wide = 250 * count / most
        rows.append(
            f'<text x="112" y="{y + 14}" text-anchor="end">{text(name)}</text>'
            f'<rect class="bar" x="122" y="{y}" width="{max(wide, 1):.1f}" height="18" rx="2"/>'
            f'<text x="{130 + wide:.1f}" y="{y + 14}">{count:,} ({percent(count / total, 0)})</text>'
        )
    about = "; ".join(f"{name}: {count:,}" for name, count in counts)
    return (
        f'<svg class="chart bars" viewBox="0 0 {_WIDTH} {high}" role="img" aria-label="{text(f"{what}: {about}")}">'
        f"{''.join(rows)}</svg>"
    )


def confusion(classes: Sequence[str], cells: Sequence[tuple[str, str, int]]) -> str:
    """A heat map: a row a label, a column a predicted name; the more of a row is in a cell, the stronger its colour.

    Parameters
    ----------
    classes
        At most `MOST_CLASSES`, in the order of rows and columns.
    cells
        Label, predicted name, and how many.
    """
    shown = [each if len(each) <= _LETTERS else f"{each[: _LETTERS - 1]}…" for each in classes]
    margin = 14 + int(7.2 * max(len(each) for each in shown))
    size = int(min(max((_MATRIX - margin) / len(classes), 14), 40))
    side = margin + size * len(classes) + 8
    at = {name: place for place, name in enumerate(classes)}
    totals = dict.fromkeys(classes, 0)
    for true, _, count in cells:
        totals[true] += count
    body = []
    for place, (name, short) in enumerate(zip(classes, shown, strict=True)):
        middle = margin + size * place + size / 2
        title = f"<title>{text(name)}</title>"
        body.append(
            f'<text x="{margin - 6}" y="{middle + 4:.1f}" text-anchor="end">{text(short)}{title}</text>'
            f'<text transform="translate({middle + 4:.1f} {margin - 6}) rotate(-90)">{text(short)}{title}</text>'
            f'<line class="rail" x1="{margin}" x2="{side - 8}" y1="{middle + size / 2}" y2="{middle + size / 2}"/>'
        )
    for true, predicted, count in cells:
        x, y = margin + size * at[predicted], margin + size * at[true]
        strength = 0.15 + 0.85 * count / totals[true]
        kind = "right" if true == predicted else "wrong"
        said = f"{true}: {count:,} of {totals[true]:,} named {predicted}"
        number = ""
        if len(classes) <= _NUMBERED:
            light = "strong" if strength > 0.55 else "weak"
            number = (
                f'<text class="{light}" x="{x + size / 2}" y="{y + size / 2 + 4}" text-anchor="middle">{count}</text>'
            )
        body.append(
            f'<g><title>{text(said)}</title><rect class="{kind}" x="{x + 0.5}" y="{y + 0.5}" width="{size - 1}" '
            f'height="{size - 1}" fill-opacity="{strength:.3f}"/>{number}</g>'
        )
    about = f"Confusion matrix of {len(classes):,} classes; the table below lists what is taken for what"
    return (
        f'<svg class="matrix" viewBox="0 0 {side} {side}" width="{side}" role="img" aria-label="{about}">'
        f"{''.join(body)}</svg>"
    )


def _x(share: float) -> float:
    return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * share, 1)


def _y(share: float) -> float:
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share, 1)


def _line(points: Sequence[Point], name: str) -> str:
    return f'<polyline class="line {name}" points="{" ".join(f"{_x(x)},{_y(y)}" for x, y in points)}"/>'


def _dots(points: Sequence[Point], titles: Sequence[str], name: str) -> str:
    return "".join(
        f'<circle class="dot {name}" cx="{_x(x)}" cy="{_y(y)}" r="4"><title>{text(title)}</title></circle>'
        for (x, y), title in zip(points, titles, strict=True)
    )


def _axes(body: str, across: str, up: str, about: str, least: float = 0.0) -> str:
    """A chart of shares: the x axis from 0 to 100 %, the y axis from `least`, a fifth of it between the lines."""
    ticks = []
    for step in range(6):
        share = step / 5
        ticks.append(
            f'<line class="rail" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(share)}" y2="{_y(share)}"/>'
            f'<text x="{_LEFT - 8}" y="{_y(share) + 4:.1f}" text-anchor="end">'
            f"{percent(least + (1 - least) * share, 0)}</text>"
            f'<text x="{_x(share)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{percent(share, 0)}</text>'
        )
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(about)}">{"".join(ticks)}'
        f'<text class="axis" x="{_x(0.5)}" y="{_HEIGHT - 8}" text-anchor="middle">{text(across)}</text>'
        f'<text class="axis" transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{text(up)}</text>'
        f"{body}</svg>"
    )
