"""Sorting texts in parts against Arrow's own sort of the whole."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birder.server import text_order

PREFIXES = ["", "file:///images/station-", "Größe/", "a\0"]
TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.text(alphabet="ab\0é\U0001f98a", max_size=12),
        st.builds("{}{}".format, st.sampled_from(PREFIXES), st.integers(0, 10**9)),
    ),
    max_size=200,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.sampled_from(PREFIXES), st.booleans(), st.sampled_from([pa.string(), pa.large_string()]))
def test_texts_are_sorted_as_arrow_sorts_them(
    texts: list[str | None], prefix: str, descending: bool, kind: pa.DataType
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_order, "_FEW", 0)
        whole = pa.array(["left out", *(text if text is None else prefix + text for text in texts), None], kind)
        column = whole[1:]  # the offsets of a part of an array do not begin at 0
        found = text_order.text_order(column, descending=descending)
    expected = pc.array_sort_indices(column, order="descending" if descending else "ascending")
    assert found.tolist() == expected.to_pylist()


def test_many_texts_in_several_parts() -> None:
    random = np.random.default_rng(0)
    words = np.array(["fox", "rain", "dense", "fern", "at", "dusk"])
    notes = pa.array([" ".join(words[row]) for row in random.integers(0, len(words), (60_000, 6))])
    for descending, way in ((False, "ascending"), (True, "descending")):
        expected = pc.array_sort_indices(notes, order=way).to_numpy()
        assert np.array_equal(text_order.text_order(notes, descending=descending), expected)
