from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from birder.errors import ConfigError
from birder.naming import text_embeddings
from birder.naming.prompts import OPENAI_TEMPLATES
from birder.naming.text_embeddings import cached_labels, encode_labels
from birder.weights.clip import LoadedClip, load_clip

DATA = Path(__file__).parents[1] / "data" / "openclip"
LABELS = ["owl", "Strix aluco", "élan", "a name that is longer than the others by a few words", "x"]


@pytest.fixture(scope="module")
def clip() -> LoadedClip:
    return load_clip(DATA)


class Counting:
    """A text encoder that remembers what it was asked."""

    def __init__(self, clip: LoadedClip) -> None:
        self.clip = clip
        self.asked: list[str] = []

    def encode_text(self, texts: Sequence[str], normalize: bool = False) -> torch.Tensor:
        self.asked += texts
        return self.clip.encode_text(texts, normalize)


def test_labels_are_the_scaled_mean_over_templates(clip: LoadedClip) -> None:
    seen: list[int] = []
    matrix = encode_labels(clip, LABELS, progress=seen.append)
    assert matrix.shape == (clip.embedding_size, len(LABELS))
    assert sum(seen) == len(LABELS)
    for i, label in enumerate(LABELS):  # one by one, padded to the full length, as Radford et al. describe it
        tokens = clip.tokenizer([template.format(label) for template in OPENAI_TEMPLATES])
        features = torch.nn.functional.normalize(clip.encode_text(tokens), dim=-1).mean(0)
        np.testing.assert_allclose(matrix[:, i], features / features.norm(), rtol=0, atol=1e-6)


def test_blocks_do_not_change_the_result(clip: LoadedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode_labels(clip, LABELS, ["a photo of a {}.", "{}"])
    monkeypatch.setattr(text_embeddings, "_LABELS_AT_ONCE", 2)
    np.testing.assert_allclose(encode_labels(clip, LABELS, ["a photo of a {}.", "{}"]), whole, atol=1e-6)


def test_a_template_without_a_place_is_refused(clip: LoadedClip) -> None:
    with pytest.raises(ConfigError, match="a photo of"):
        encode_labels(clip, LABELS, ["owl"])


def test_labels_are_encoded_once(clip: LoadedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path))
    half = Counting(clip)
    first = cached_labels(half, ["owl", "fox"], ["{}"], model_id="m")
    assert half.asked == ["owl", "fox"]
    np.testing.assert_array_equal(cached_labels(half, ["owl", "fox"], ["{}"], model_id="m"), first)
    assert len(half.asked) == 2
    for labels, templates, model_id in (
        (["fox", "owl"], ["{}"], "m"),
        (["owl", "fox"], ["a {}"], "m"),
        (["owl", "fox"], ["{}"], "n"),
    ):
        before = len(half.asked)
        cached_labels(half, labels, templates, model_id=model_id)
        assert len(half.asked) == before + 2
    assert len(list((tmp_path / "text-embeddings").iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"no array", "pickle", "other"])
def test_a_damaged_cache_is_rebuilt(
    clip: LoadedClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | str
) -> None:
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path))
    first = cached_labels(clip, ["owl", "fox"], ["{}"], model_id="m")
    (file,) = (tmp_path / "text-embeddings").iterdir()
    if damage == "pickle":
        np.save(file, np.array([{"run": "code"}], dtype=object), allow_pickle=True)
    elif damage == "other":
        np.save(file, np.zeros((3, 7), np.float32))
    else:
        file.write_bytes(damage)  # type: ignore[arg-type]
    np.testing.assert_array_equal(cached_labels(clip, ["owl", "fox"], ["{}"], model_id="m"), first)
    np.testing.assert_array_equal(np.load(file), first)
