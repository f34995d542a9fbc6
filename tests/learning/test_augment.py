"""What a network sees while it learns: random views, in the order of an epoch, made by workers that may die."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from birder.learning.augment import coloured, random_view
from birder.learning.schedule import warmed_cosine
from birder.learning.training_data import TrainingImages, Views, epoch_order
from tests.learning.tiny import RGB, write_images

TRANSFORM = {"size": [48, 32], **RGB, "center_crop": 1.0, "simple_crop": False}


def picture(width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@given(st.tuples(*[st.floats(0.5, 1.6)] * 3))
def test_colours_change_as_pillow_changes_them(factors: tuple[float, float, float]) -> None:
    image = picture()
    theirs = image
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        theirs = enhance(theirs).enhance(factor)
    x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    ours = coloured(x, torch.tensor([factors]))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(ours - np.asarray(theirs)).max() < 7  # which rounds three times


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32))
def test_a_view_is_a_part_of_the_image_at_the_size_asked_for(width: int, height: int, seed: int) -> None:
    across = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], (height, width, 3))
    view = random_view(Image.fromarray(across.copy()), (24, 16), np.random.default_rng(seed))
    again = random_view(Image.fromarray(across.copy()), (24, 16), np.random.default_rng(seed))
    assert view.pixels.shape == (24, 16, 3)
    assert all(0.7 <= factor <= 1.3 for factor in view.colour)
    assert np.array_equal(view.pixels, again.pixels)
    assert view.colour == again.colour
    if width > 20 and 0.75 <= width / height <= 4 / 3:
        # The grey goes evenly across, so it tells how wide the part is: the square root of 35 % x 3/4, or more.
        shown = np.ptp(view.pixels[12, :, 0].astype(float)) * 16 / 15 / 255
        assert shown > 0.75 * math.sqrt(0.35 * 0.75)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_shows_every_image_once_and_each_epoch_in_another_order(
    codes: list[int], seed: int, epoch: int
) -> None:
    order = epoch_order(np.array(codes), seed, epoch, balance=False)
    assert sorted(order.tolist()) == list(range(len(codes)))
    assert np.array_equal(order, epoch_order(np.array(codes), seed, epoch, balance=False))


def test_a_balanced_epoch_shows_every_class_equally_often() -> None:
    codes = np.repeat([0, 1, 2], [3000, 300, 30])
    shown = np.bincount(codes[epoch_order(codes, 0, 0, balance=True)])
    assert np.abs(shown - 1110).max() < 5 * math.sqrt(1110)


@given(st.integers(1, 50), st.integers(51, 500))
def test_the_learning_rate_goes_up_in_a_line_and_down_to_nothing(warm_up: int, updates: int) -> None:
    rates = [warmed_cosine(update, warm_up, updates) for update in range(updates)]
    assert rates[:warm_up] == pytest.approx([(update + 1) / warm_up for update in range(warm_up)])
    assert rates[warm_up:] == sorted(rates[warm_up:], reverse=True)
    assert max(rates) == 1.0
    assert 0 < rates[-1] < 0.01 or updates - warm_up < 20


def children() -> set[int]:
    files = Path("/proc/self/task").glob("*/children")
    return {int(pid) for file in files for pid in file.read_text().split()}


@pytest.mark.slow
def test_views_do_not_depend_on_batches_and_survive_damaged_images_and_dead_workers(tmp_path: Path) -> None:
    paths = write_images(tmp_path, 3)
    paths[4].write_bytes(b"no image")
    paths[7].unlink()
    images = TrainingImages([path.as_uri() for path in paths], np.zeros(9, np.int64))
    before = children()
    with Views(images, TRANSFORM, 5) as views:
        (one,) = views.random(2, [np.arange(9)])
        for worker in children() - before:
            os.kill(worker, signal.SIGKILL)
        others = list(views.random(2, [np.array([8, 1, 4]), np.array([0]), np.array([7])]))
        (whole,) = views.whole([np.array([3])])
    assert one.rows.tolist() == [0, 1, 2, 3, 5, 6, 8]
    assert views.failures.keys() == {paths[4].as_uri(), paths[7].as_uri()}
    assert views.failures[paths[7].as_uri()] == "the file no longer exists"
    assert [batch.rows.tolist() for batch in others] == [[8, 1], [0], []]
    assert others[2].pixels.shape == (0, 48, 32, 3)
    assert np.array_equal(others[0].pixels, one.pixels[[6, 1]])
    assert np.array_equal(others[0].colour, one.colour[[6, 1]])
    with Image.open(paths[3]) as image:
        assert np.array_equal(whole.pixels[0], np.asarray(image.resize((32, 48), Image.Resampling.BICUBIC)))
    assert children() <= before
