"""One piece of code for open_clip, run with open_clip and with Birder in its place."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

PYTHON = Path(os.environ["BIRDER_PEERS"]).absolute()
ROOT = Path(__file__).parents[2]
CODE = """
import json, sys
import {package} as open_clip
import torch
from PIL import Image

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + sys.argv[1])
model.eval()
tokenizer = open_clip.get_tokenizer("local-dir:" + sys.argv[1])

image = preprocess(Image.open(sys.argv[2])).unsqueeze(0)
text = tokenizer(["a cat", "a dog", "Felis catus"])

with torch.no_grad():
    image_features = model.encode_image(image)
    text_features = model.encode_text(text)
    image_features /= image_features.norm(dim=-1, keepdim=True)
    text_features /= text_features.norm(dim=-1, keepdim=True)
    text_probs = (model.logit_scale.exp() * image_features @ text_features.T).softmax(dim=-1)
    features, _, scale = model(image, text)

tower = model.visual(image)
print(json.dumps([x.tolist() for x in (text_probs, image_features, text_features, features, scale, tower)]))
"""


@pytest.fixture(scope="module")
def results() -> dict[str, list[np.ndarray]]:
    results = {}
    for package in ("open_clip", "birder"):
        done = subprocess.run(
            [PYTHON, "-c", CODE.format(package=package), ROOT / "tests/data/openclip", ROOT / "tests/data/chelsea.png"],
            env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        results[package] = [np.array(value) for value in json.loads(done.stdout)]
    return results


def test_the_numbers_are_the_same(results: dict[str, list[np.ndarray]]) -> None:
    for theirs, ours in zip(results["open_clip"], results["birder"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
