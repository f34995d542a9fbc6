"""The inference transform, against the published implementation's inputs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import birder
from birder.errors import ConfigError

DATA = Path(__file__).parents[1] / "data"
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


@pytest.mark.parametrize("name", ["vit_tiny_p16_pn_test", "vit_tiny_p14_pn_test", "vit_tiny_p16_test"])
def test_transform_equals_the_published_input(name: Any) -> None:
    expected = np.load(DATA / "birder" / f"{name}.npz")["input"]
    transform = birder.classification_transform(expected.shape[-2:], CLIP)
    x = transform(Image.open(DATA / "chelsea.png"))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x[None], expected, atol=1e-6, rtol=0)


def test_transform_can_be_pickled_and_printed() -> None:
    transform = birder.classification_transform((32, 48), CLIP, center_crop=0.8)
    image = Image.effect_noise((100, 60), 80)
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(image), transform(image))
    assert "size=(32, 48)" in repr(again)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    crop=st.floats(0.3, 1.0),
    simple=st.booleans(),
)
def test_output_always_has_the_requested_size(width: Any, height: Any, size: Any, crop: Any, simple: Any) -> None:
    transform = birder.classification_transform(size, CLIP, crop, simple)
    pixels = transform.to_uint8(Image.new("L", (width, height), 77))
    assert pixels.shape == (*size, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 77).all()


def test_centre_crop_is_in_the_centre() -> None:
    image = Image.new("RGB", (100, 100), "black")
    image.paste("white", (25, 25, 75, 75))
    cropped = birder.classification_transform((50, 50), CLIP, center_crop=0.5).to_uint8(image)
    assert cropped[2:-2, 2:-2].min() == 255
    whole = birder.classification_transform((50, 50), CLIP).to_uint8(image)
    assert whole[0, 0, 0] == 0


def test_simple_crop_keeps_the_aspect_ratio() -> None:
    image = Image.new("RGB", (200, 100), "black")
    image.paste("white", (50, 0, 150, 100))
    kept = birder.classification_transform((50, 50), CLIP, simple_crop=True).to_uint8(image)
    squeezed = birder.classification_transform((50, 50), CLIP).to_uint8(image)
    assert kept.min() > 200  # the edges mix with their neighbours
    assert (squeezed[:, 0] == 0).all()


def test_normalises_after_scaling_to_one() -> None:
    x = birder.classification_transform((4, 4), {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0)})(
        Image.new("RGB", (9, 9), (255, 0, 51))
    )
    assert x[:, 0, 0].tolist() == pytest.approx([2.0, -1.0, -0.3])


@pytest.mark.parametrize(
    ("size", "stats", "crop"),
    [((0, 4), CLIP, 1.0), ((4, 4), CLIP, 0.0), ((4, 4), CLIP, 1.1), ((4, 4), {"mean": (0,) * 3, "std": (0,) * 3}, 1.0)],
)
def test_invalid_arguments_raise_config_error(size: Any, stats: Any, crop: Any) -> None:
    with pytest.raises(ConfigError):
        birder.classification_transform(size, stats, crop)
