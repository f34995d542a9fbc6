"""The OpenVINO engine against PyTorch: the same embeddings, from a graph that starts without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import birder
from birder.errors import ConfigError
from birder.images.transform import classification_transform
from birder.inference import engine_openvino as ov
from birder.inference.engine import Engine, choose_engine, open_engine
from birder.inference.quantize import quantize
from birder.weights.checkpoint import make_signature
from birder.weights.resolve import Model, resolve

DATA = Path(__file__).parents[1] / "data"
CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A published tiny network, under a name that tells its network."""
    path = tmp_path_factory.mktemp("tiny") / "vit_b16_pn_tiny.pt"
    path.write_bytes((DATA / "birder" / "vit_tiny_p16_pn_test.pt").read_bytes())
    return resolve(path)


def cosines(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    a, b = (x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1)
    return found


def photo_pixels(photos: Path, engine: Engine, rgb_stats: dict[str, Any]) -> np.ndarray:
    transform = classification_transform(engine.size, rgb_stats)
    return np.stack([transform.to_uint8(Image.open(path)) for path in sorted(photos.rglob("*.jpg"))])


def test_openvino_gives_the_published_embedding(tiny: Model) -> None:
    expected = np.load(DATA / "birder" / "vit_tiny_p16_pn_test.npz")["embedding"]
    opened = open_engine(tiny, engine="openvino", precision="fp32")
    pixels = classification_transform(opened.engine.size, opened.rgb_stats).to_uint8(Image.open(DATA / "chelsea.png"))
    embeddings = opened.engine.embed(np.stack([pixels] * 3))
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, np.repeat(expected, 3, axis=0), atol=1e-5)


def test_a_stored_graph_starts_without_torch_or_telemetry(tiny: Model) -> None:
    open_engine(tiny, engine="openvino", precision="fp32")
    code = f"""
import sys
from birder.inference.engine import open_engine
from birder.weights.resolve import Model, resolve
opened = open_engine(resolve({str(tiny.source)!r}), engine="openvino", precision="fp32")
print(opened.engine.embedding_size, "torch" in sys.modules, sys.modules["openvino_telemetry"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "48 False None\n"


def test_the_engine_is_chosen_by_device() -> None:
    assert choose_engine(device="cpu") == "openvino"
    assert choose_engine("torch", "cpu") == "torch"
    with pytest.raises(ConfigError, match="runs on the CPU"):
        choose_engine("openvino", "cuda")
    with pytest.raises(ConfigError, match="known: auto"):
        choose_engine("onnx")


def test_unavailable_precisions_are_refused(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="birder quantize"):
        open_engine(tiny, engine="openvino", precision="int8")
    with pytest.raises(ConfigError, match="fp64"):
        open_engine(tiny, engine="openvino", precision="fp64")
    with pytest.raises(ConfigError, match="int8"):
        open_engine(tiny, engine="torch", precision="int8", device="cpu")
    monkeypatch.setattr(ov, "has_bf16", lambda: False)
    with pytest.raises(ConfigError, match="no bf16"):
        open_engine(tiny, engine="openvino", precision="bf16")
    assert open_engine(tiny, engine="openvino").engine.precision == "fp32"


def test_torch_in_bf16_stays_close(tiny: Model) -> None:
    expected = np.load(DATA / "birder" / "vit_tiny_p16_pn_test.npz")["embedding"]
    opened = open_engine(tiny, engine="torch", precision="bf16", device="cpu")
    pixels = classification_transform(opened.engine.size, opened.rgb_stats).to_uint8(Image.open(DATA / "chelsea.png"))
    embedding = opened.engine.embed(pixels[None])
    assert cosines(embedding, expected).min() >= 0.999
    assert not np.array_equal(embedding, expected)


@pytest.mark.slow
def test_automatic_precision_stays_within_a_cosine_of_0999_on_every_image_tried(photos: Path, tmp_path: Path) -> None:
    """With random ViT-B/16 weights and with the real EfficientNet-Lite0's, which are never run in bf16 unasked."""
    torch.manual_seed(0)
    net = birder.create_network("vit_b16_pn", 512, config={"head_bias": False})
    path = tmp_path / "vit_b16_pn_random.safetensors"
    signature = make_signature((224, 224), 512)
    birder.save_model(net, path, signature=signature, rgb_stats=CLIP, config={"head_bias": False})
    for name in (str(path), "efficientnet_lite0_in1k"):
        model = resolve(name)
        opened = open_engine(model, engine="openvino")
        assert opened.engine.precision == ("bf16" if ov.has_bf16() and model.network == "vit_b16_pn" else "fp32")
        if opened.engine.precision == "fp32":
            continue  # the exact one itself
        exact = open_engine(model, engine="openvino", precision="fp32").engine
        every = photo_pixels(photos, exact, opened.rgb_stats)
        assert len(every) == 129
        pixels = every[[*range(0, 129, 12), 6, 102]]  # the last two differed most of all when the whole set was tried
        assert cosines(opened.engine.embed(pixels), exact.embed(pixels)).min() >= 0.999


@pytest.mark.slow
def test_quantising_is_calibrated_on_the_users_images(tiny: Model, photos: Path) -> None:
    exact = open_engine(tiny, engine="openvino", precision="fp32")
    pixels = photo_pixels(photos, exact.engine, exact.rgb_stats)[::3]
    result = quantize(tiny, pixels)
    engine = open_engine(tiny, engine="openvino", precision="int8").engine
    assert engine.precision == "int8"
    measured = cosines(engine.embed(pixels[::4]), exact.engine.embed(pixels[::4]))
    assert result.cosine == pytest.approx(measured.mean(), abs=1e-6)
    assert result.lowest == pytest.approx(measured.min(), abs=1e-6)
    assert (result.calibrated_on, result.measured_on) == (32, 11)
    assert ov.read_facts(ov.graph_folder(tiny.fetch(), "int8"))["quantized"] == result._asdict()
    assert result.usual == open_engine(tiny, engine="openvino").engine.precision
    assert 1 < result.rate < 1e6 and 1 < result.usual_rate < 1e6
    assert 0.9 < result.cosine < 1.0
    with pytest.raises(ConfigError, match="at least 8"):
        quantize(tiny, pixels[:7])
