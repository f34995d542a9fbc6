"""How much of the trained weights is taken."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from birder.learning.finetune import MIXES, chosen_mix


def test_what_images_cannot_tell_apart_is_trained_as_far_as_it_goes() -> None:
    noise = np.random.default_rng(0)
    before = noise.exponential(0.5, 200)
    alike = {share: before + noise.normal(0, 0.1, 200) for share in MIXES}
    alike = {share: losses - losses.mean() + 0.5 for share, losses in alike.items()}
    assert chosen_mix(alike) == 1.0
    assert chosen_mix({share: before + share for share in MIXES}) == 0.0
    assert chosen_mix({share: before + (share - 0.4) ** 2 for share in MIXES}) == 0.4
    assert chosen_mix({share: np.empty(0) for share in MIXES}) == 1.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_what_is_chosen_is_at_most_a_standard_error_worse_and_no_larger_share_is(seed: int, images: int) -> None:
    drawn = np.random.default_rng(seed).exponential(1.0, (len(MIXES), images))
    losses = dict(zip(MIXES, drawn, strict=True))
    chosen = chosen_mix(losses)
    best = drawn[drawn.mean(axis=1).argmin()]
    for share, each in losses.items():
        as_good = (each - best).mean() <= (each - best).std() / images**0.5
        assert as_good if share == chosen else not (as_good and share > chosen)
