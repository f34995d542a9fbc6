"""Tokens against those of open_clip_torch 3.3.0 (tests/data/openclip)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from birder.errors import ConfigError
from birder.net.tokenizer import ClipTokenizer, clean

DATA = Path(__file__).parents[1] / "data" / "openclip"
START, END = 49406, 49407


def cases() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((DATA / "tokens.json").read_text("utf-8"))
    return found


def test_tokens_of_the_reference_texts_are_identical() -> None:
    texts = json.loads((DATA / "texts.json").read_text("utf-8"))
    assert np.array_equal(ClipTokenizer()(texts).numpy(), np.load(DATA / "reference.npz")["tokens"])


@pytest.mark.parametrize("case", cases(), ids=lambda case: ascii(case["text"])[:40])
def test_tokens_of_unruly_texts_are_identical(case: dict[str, object]) -> None:
    (row,) = ClipTokenizer()(str(case["text"])).tolist()
    assert row == case["tokens"] + [0] * (77 - len(case["tokens"]))  # type: ignore[arg-type, operator]


def test_a_shorter_context_cuts_and_keeps_the_end() -> None:
    long = ClipTokenizer()("Corvus corax of the far north")[0].tolist()
    assert ClipTokenizer(5)("Corvus corax of the far north").tolist() == [[*long[:4], END]]


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="no room"):
        ClipTokenizer(1)


def test_no_texts_give_no_rows() -> None:
    assert ClipTokenizer()([]).shape == (0, 77)


@given(st.text(max_size=120))
def test_a_row_is_start_words_end_and_zeros(text: str) -> None:
    tokens = ClipTokenizer()(text)
    assert tokens.shape == (1, 77) and tokens.dtype == torch.int64
    row = tokens[0].tolist()
    length = len(row) if 0 not in row[1:] else max(i for i, token in enumerate(row) if token) + 1
    assert row[0] == START and row[length - 1] == END
    assert all(token == 0 for token in row[length:])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_a_text_has_the_same_tokens_alone_and_in_a_batch(texts: list[str]) -> None:
    tokenizer = ClipTokenizer()
    assert torch.equal(tokenizer(texts), torch.cat([tokenizer(text) for text in texts]))


@given(st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="&"), max_size=60))
def test_case_and_spaces_do_not_matter(text: str) -> None:
    assert clean(f"  {text.upper()} ".replace(" ", " \t ")) == clean(text)
