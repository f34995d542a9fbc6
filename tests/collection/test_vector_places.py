"""Rows that were moved find the places that their vectors have, each place once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.collection import vector_files
from birder.collection.index import make_index
from birder.collection.vector_files import VectorFiles, half, open_files
from tests.factory import DIMENSION, clustered, collection_in_bulk

KINDS = clustered(24, seed=3)
OF_PLACE = np.random.default_rng(0).integers(0, 20, 300)
"""The vector of each place; the last four of `KINDS` are in none."""

asked = st.lists(st.lists(st.integers(0, 23), max_size=40), max_size=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> VectorFiles:
    collection = collection_in_bulk(tmp_path_factory.mktemp("places") / "c.birder", KINDS[OF_PLACE])
    make_index(collection)
    made = open_files(collection.path, DIMENSION)
    assert made is not None
    return made


@given(st.sets(st.integers(0, 299)), asked)
@settings(max_examples=50, deadline=None)
def test_a_vector_takes_a_free_place_that_has_it_as_long_as_there_is_one(
    files: VectorFiles, places: set[int], blocks: list[list[int]]
) -> None:
    free = vector_files._Free(files, np.array(sorted(places), np.int64))
    left = Counter(OF_PLACE[sorted(places)].tolist())
    for block in blocks:
        known, taken = free.take(half(KINDS[block].reshape(-1, DIMENSION)))
        assert len(set(taken.tolist())) == len(taken)
        assert set(taken.tolist()) <= places
        places = places - set(taken.tolist())
        assert OF_PLACE[taken].tolist() == [block[row] for row in known]
        wanted = Counter(block)
        assert Counter(OF_PLACE[taken].tolist()) == wanted & left
        left -= wanted & left
