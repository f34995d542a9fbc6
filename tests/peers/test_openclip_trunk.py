"""A CLIP with an EfficientNet-Lite0 as its image encoder, as open_clip loads it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from birder.images.open import open_image
from birder.net.clip import CLIP, TextEncoder
from birder.registry import create_network
from birder.weights.clip import load_clip
from birder.weights.openclip_convert import write_openclip
from tests.weights.made_clip import as_openclip

PHOTO = Path(__file__).parents[1] / "data" / "chelsea.png"
CODE = """
import json, sys
import open_clip
import torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + sys.argv[1])
model.eval()
image = preprocess(Image.open(sys.argv[2])).unsqueeze(0)
text = open_clip.get_tokenizer("local-dir:" + sys.argv[1])(["a cat", "Felis catus"])
with torch.no_grad():
    print(json.dumps([model.encode_image(image).tolist(), model.encode_text(text).tolist(), image[0, :, 0].tolist()]))
"""


@pytest.mark.parametrize("network", ["tf_efficientnet_lite0", "efficientnet_lite0"])
def test_open_clip_computes_the_same_features(network: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = TextEncoder(8, vocabulary_size=49408, context_length=16, width=12, num_heads=2, num_layers=2, mlp_dim=31)
    net = CLIP(create_network(network, 8, config={"head_bias": False}), text)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            assert layer.running_var is not None
            layer.running_var.fill_(0.1)  # as a trained network's: features neither vanish nor explode
    folder = write_openclip(tmp_path / "model", *as_openclip(network, net.eval()))
    done = subprocess.run(
        [Path(os.environ["BIRDER_PEERS"]).absolute(), "-c", CODE, folder, PHOTO],
        env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    image, texts, row = (np.array(value) for value in json.loads(done.stdout))
    ours = load_clip(folder)
    x = ours.transform(open_image(PHOTO)).unsqueeze(0)
    np.testing.assert_allclose(x[0, :, 0].numpy(), row, atol=1e-6)
    features = ours.encode_image(x).numpy()
    assert np.abs(features).max() > 0.01
    np.testing.assert_allclose(features, image, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.encode_text(["a cat", "Felis catus"]).numpy(), texts, rtol=1e-4, atol=1e-5)
