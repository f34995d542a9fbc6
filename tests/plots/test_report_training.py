"""The curves of a training in a report."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.plots.report_training import curves

VALUES = st.lists(st.floats(-10, 10).map(lambda value: round(value, 4)), min_size=1, max_size=8)


@given(VALUES, VALUES)
def test_points_lie_where_their_values_are(one: list[float], other: list[float]) -> None:
    drawn = curves([("a", "first", list(enumerate(one))), ("<b>", "second", list(enumerate(other, 1)))], "Loss")
    lines = re.findall(r'<polyline class="line \w+" points="([^"]*)"', drawn)
    points = [tuple(map(float, pair.split(","))) for line in lines for pair in line.split()]
    values = one + other
    assert len(points) == len(values)
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawn)[0])
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    for value, (_, y) in zip(values, points, strict=True):  # higher values stand higher, in proportion
        least, most = min(values), max(values)
        if most - least > 0.1:
            at_least, at_most = points[values.index(least)][1], points[values.index(most)][1]
            share = (value - least) / (most - least)
            assert y == pytest.approx(at_least + share * (at_most - at_least), abs=0.11)
    assert "<b>" not in drawn
