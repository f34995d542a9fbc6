"""The model card's code blocks, word for word, against a loopback hub that serves a checkpoint of the real shape."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import birder
from birder.inference.classification import infer_image
from birder.registry import weights_spec
from birder.weights.checkpoint import make_signature
from tests.hub import Hub

CARD = Path(__file__).parent / "data" / "card.md"
README = Path(__file__).parents[1] / "README.md"
NAME = "vit_b16_pn_bioclip-v1"
# OpenCLIP's statistics, which the published checkpoint carries.
RGB_STATS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}

SHOW = """
import numpy
print(type(embedding).__name__, embedding.shape, embedding.dtype, type(out).__name__, out.shape, out.dtype)
numpy.savez("shown.npz", out=out, embedding=embedding, neck=features["neck"].numpy())
"""


def code_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_readme_prints_the_cards_blocks() -> None:
    assert len(code_blocks(CARD)) == 2
    assert code_blocks(README)[:2] == code_blocks(CARD)


@pytest.mark.slow
def test_the_cards_blocks_run_word_for_word(hub: Hub, photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = birder.create_network("vit_b16_pn", 512, config={"head_bias": False}).eval()
    assert sum(p.numel() for p in net.parameters()) == 86_192_640
    checkpoint = birder.save_model(
        net,
        tmp_path / f"{NAME}.pt",
        signature=make_signature((224, 224), 512),
        rgb_stats=RGB_STATS,
        config={"head_bias": False},
    )
    served = hub.add(f"birder-project/{NAME}", f"{NAME}.pt", checkpoint)
    assert abs(served.size / 2**20 - 328.9) < 0.1  # the published file's size

    # The served weights are random, so the registered checksum is replaced by theirs; the rest stays as registered.
    weights = tmp_path / "weights.toml"
    weights.write_text(
        f'[weights."{NAME}"]\nnetwork = "vit_b16_pn"\nrepository = "birder-project/{NAME}"\n'
        f'file = "{NAME}.pt"\nsha256 = "{served.sha256}"\n'
    )
    image = tmp_path / "path" / "to" / "image.jpeg"
    image.parent.mkdir(parents=True)
    shutil.copy(photos / "birds" / "owl.jpg", image)

    script = tmp_path / "card.py"
    script.write_text("\n".join([*code_blocks(CARD), SHOW]))
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=hub.env | {"BIRDER_WEIGHTS": str(weights)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed, types = done.stdout.splitlines()
    assert printed == "[('neck', torch.Size([1, 768, 14, 14]))]"
    assert types == "ndarray (1, 768) float32 ndarray (1, 512) float32"
    assert [r.method for r in hub.requests if r.path.endswith(f"/resolve/main/{NAME}.pt")] == ["HEAD", "GET"]

    # What came out is what the saved network gives: the file's weights arrived, and no others.
    transform = birder.classification_transform((224, 224), RGB_STATS)
    out, embedding = infer_image(net, image, transform, return_embedding=True)
    assert embedding is not None
    shown = np.load(tmp_path / "shown.npz")
    np.testing.assert_allclose(shown["embedding"], embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shown["out"], out, rtol=1e-4, atol=1e-6)
    assert np.isfinite(shown["neck"]).all()


@pytest.mark.slow
def test_the_registered_checksum_refuses_another_file(hub: Hub, tmp_path: Path) -> None:
    hub.add(f"birder-project/{NAME}", f"{NAME}.pt", b"not the published weights")
    first = code_blocks(CARD)[0]
    done = subprocess.run([sys.executable, "-c", first], cwd=tmp_path, env=hub.env, capture_output=True, text=True)
    assert done.returncode != 0
    assert "WeightsError" in done.stderr
    assert str(weights_spec(NAME).sha256) in done.stderr
    assert not list(Path(hub.env["HF_HOME"]).rglob(f"{NAME}.pt"))
