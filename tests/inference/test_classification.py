"""infer_image, infer_batch and infer_dataloader, against the published outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import birder
from birder.errors import ConfigError, ImageError
from birder.images.transform import ClassificationTransform
from birder.inference.classification import (
    DataloaderResult,
    infer_batch,
    infer_dataloader,
    infer_dataloader_iter,
    infer_image,
)
from birder.inference.engine import make_engine
from birder.inference.engine_torch import find_device
from birder.net.base import Backbone
from birder.weights.load import ModelInfo

DATA = Path(__file__).parents[1] / "data"
PHOTO = DATA / "chelsea.png"
REFERENCES = {"vit_tiny_p16_pn_test": "vit_b16_pn", "vit_tiny_p16_test": "vit_b16"}

Model = tuple[Backbone, ModelInfo, ClassificationTransform, dict[str, npt.NDArray[Any]]]
Loader = torch.utils.data.DataLoader[tuple[str, torch.Tensor, int]]


@pytest.fixture(scope="module", params=REFERENCES)
def model(request: pytest.FixtureRequest) -> Model:
    name = request.param
    net, info = birder.load_model(REFERENCES[name], DATA / "birder" / f"{name}.pt", inference=True)
    transform = birder.classification_transform(birder.get_size_from_signature(info.signature), info.rgb_stats)
    return net, info, transform, np.load(DATA / "birder" / f"{name}.npz")


@pytest.mark.parametrize("sample", [str(PHOTO), PHOTO, Image.open(PHOTO)], ids=["str", "Path", "image"])
def test_infer_image_gives_the_published_outputs(model: Model, sample: str | Path | Image.Image) -> None:
    net, _, transform, expected = model
    out, embedding = infer_image(net, sample, transform, return_embedding=True)
    assert embedding is not None
    assert out.dtype == embedding.dtype == np.float32
    np.testing.assert_allclose(out, expected["probabilities"], atol=1e-5)
    np.testing.assert_allclose(embedding, expected["embedding"], atol=1e-5)
    logits, nothing = infer_image(net, sample, transform, return_logits=True)
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-5)
    assert nothing is None


def test_tta_is_the_mean_over_five_crops(model: Model) -> None:
    net, _, transform, _ = model
    x = transform(Image.open(PHOTO))[None]
    side = x.shape[-1]
    crop = int(side * 0.8)
    far, middle = side - crop, round((side - crop) / 2)
    outs = []
    for top, left in [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]:
        part = x[..., top : top + crop, left : left + crop]
        part = torch.nn.functional.interpolate(part, (side, side), mode="bicubic", antialias=True)
        outs.append(infer_batch(net, part)[0])
    out, embedding = infer_image(net, PHOTO, transform, tta=True)
    assert embedding is None
    np.testing.assert_allclose(out, np.mean(outs, axis=0), atol=1e-6)
    assert out.sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(ConfigError, match="exclude each other"):
        infer_image(net, PHOTO, transform, tta=True, return_embedding=True)


def test_files_that_are_not_images_are_refused(model: Model, tmp_path: Path) -> None:
    net, _, transform, _ = model
    with pytest.raises(ImageError, match="does not exist"):
        infer_image(net, tmp_path / "gone.jpg", transform)
    with pytest.raises(TypeError, match="int"):
        infer_image(net, 3, transform)  # type: ignore[arg-type]


class Photos(torch.utils.data.Dataset[tuple[str, torch.Tensor, int]]):
    def __init__(self, transform: ClassificationTransform) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> tuple[str, torch.Tensor, int]:
        return f"photo-{i}", self.transform(Image.open(PHOTO).rotate(i)), i


@pytest.fixture
def loader(model: Model) -> Loader:
    return torch.utils.data.DataLoader(Photos(model[2]), batch_size=3)


def all_at_once(*arguments: Any, **options: Any) -> DataloaderResult:
    found = infer_dataloader(*arguments, **options)
    assert isinstance(found, tuple)
    return found


def in_chunks(device: str, net: torch.nn.Module, loader: Loader, *, chunk_size: int) -> list[DataloaderResult]:
    found = infer_dataloader(device, net, loader, chunk_size=chunk_size)
    assert not isinstance(found, tuple)
    return list(found)


def test_dataloader_gives_what_single_images_give(model: Model, loader: Loader) -> None:
    net, _, transform, _ = model
    seen = []
    paths, outs, targets, embeddings = all_at_once(
        torch.device("cpu"),
        net,
        loader,
        return_embedding=True,
        num_samples=7,
        batch_callback=lambda paths, out, labels: seen.append((paths, out.shape[0], labels.tolist())),
    )
    assert paths == [f"photo-{i}" for i in range(7)]
    assert targets.tolist() == list(range(7))
    assert [len(e) for e in embeddings] == [3, 3, 1]
    assert seen[-1] == (["photo-6"], 1, [6])
    single, embedding = infer_image(net, Image.open(PHOTO).rotate(5), transform, return_embedding=True)
    assert embedding is not None
    np.testing.assert_allclose(outs[5:6], single, atol=1e-6)
    np.testing.assert_allclose(embeddings[1][2:3], embedding, atol=1e-5)


def test_a_dataloader_yields_chunks(model: Model, loader: Loader) -> None:
    net = model[0]
    chunks = in_chunks("cpu", net, loader, chunk_size=4)
    assert [len(chunk[0]) for chunk in chunks] == [6, 1]
    assert [len(chunk[0]) for chunk in infer_dataloader_iter("cpu", net, loader)] == [7]


def test_an_empty_dataloader_gives_empty_arrays(model: Model) -> None:
    paths, outs, targets, embeddings = all_at_once("cpu", model[0], [])
    assert (paths, len(outs), len(targets), embeddings) == ([], 0, 0, [])


def parallel(net: Backbone) -> torch.nn.Module:
    return torch.nn.DataParallel(net)


def traced(net: Backbone) -> torch.nn.Module:
    module: torch.nn.Module = torch.jit.trace(net, torch.zeros(1, 3, *net.size))  # type: ignore[no-untyped-call]
    return module


def sequential(net: Backbone) -> torch.nn.Module:
    return torch.nn.Sequential(net, torch.nn.Identity())


@pytest.mark.filterwarnings("ignore")  # torch remarks on tracing Python's conditions, and on the end of tracing
@pytest.mark.parametrize("wrap", [parallel, traced, sequential])
def test_a_dataloader_runs_any_module(
    model: Model, loader: Loader, wrap: Callable[[Backbone], torch.nn.Module]
) -> None:
    net = model[0]
    wrapped = wrap(net)
    paths, outs, _, embeddings = all_at_once("cpu", wrapped, loader)
    np.testing.assert_allclose(outs, all_at_once("cpu", net, loader)[1], atol=1e-6)
    assert (len(paths), embeddings) == (7, [])
    assert len(all_at_once("cpu", wrapped, [])[1]) == 0
    assert [len(chunk[0]) for chunk in in_chunks("cpu", wrapped, loader, chunk_size=4)] == [6, 1]
    if wrap is parallel:
        expected = all_at_once("cpu", net, loader, return_embedding=True)[3]
        found = all_at_once("cpu", wrapped, loader, return_embedding=True)[3]
        np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected), atol=1e-6)
    else:
        with pytest.raises(ConfigError, match="gives logits alone"):
            infer_dataloader("cpu", wrapped, loader, return_embedding=True)


def test_engine_embeds_what_the_network_embeds(model: Model) -> None:
    net, info, transform, expected = model
    engine = make_engine(net, info.rgb_stats, device="cpu")
    pixels = transform.to_uint8(Image.open(PHOTO))
    embedding = engine.embed(np.stack([pixels, pixels]))
    assert embedding.dtype == np.float32
    assert embedding.shape == (2, engine.embedding_size)
    np.testing.assert_allclose(embedding[:1], expected["embedding"], atol=1e-5)


@pytest.mark.parametrize("name", ["cuda:7", "toaster"])
def test_an_unknown_device_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError, match="best available"):
        find_device(name)
