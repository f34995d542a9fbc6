"""BioCLIP's own evaluation code: run by the interpreter of .venv-peers in a checkout of its repository, or BioCLIP 2's.

Nothing of theirs is replaced; the only thing added is the configuration of a small model. Reads a JSON job from
standard input:
    {folders: {name: [folder with metadata.csv, text type]}, clip: folder in OpenCLIP's layout, data: folder with
     metadata.csv and images, text_types: [text type], outputs: file.npz}
and writes JSON: for each folder the class names in their order and the class of each row; for each text type the same
of `data`, and the most probable class of each image. To the file go the templates, features of texts (E, C) for each
text type, and those of images (N, E). Accuracies are not asked for: what counts them needs an older numpy.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch

sys.path.insert(0, str(Path.cwd()))
from src.evaluation import zero_shot_iid as theirs  # type: ignore[import-not-found]
from src.evaluation.data import DatasetFromFile  # type: ignore[import-not-found]
from src.open_clip import add_model_config  # type: ignore[import-not-found]

NAME = "small"


def classes(data: DatasetFromFile) -> dict[str, Any]:
    return {"classes": list(data.classes), "targets": data.data["class_idx"].tolist()}


@torch.no_grad()
def main(job: dict[str, Any]) -> dict[str, Any]:
    clip = Path(job["clip"])
    with tempfile.TemporaryDirectory() as folder:
        config = json.loads((clip / "open_clip_config.json").read_text())["model_cfg"]
        (Path(folder) / f"{NAME}.json").write_text(json.dumps(config))
        add_model_config(folder)
        weights = Path(folder) / "weights.pt"
        torch.save(safetensors.torch.load_file(clip / "open_clip_model.safetensors"), weights)
        model, _, transform = theirs.create_model_and_transforms(NAME, str(weights), precision="fp32", device="cpu")
    model.eval()
    arguments = SimpleNamespace(model=NAME, device="cpu")
    templates = theirs.openai_imagenet_template
    told = {
        name: classes(DatasetFromFile(data, classes=text_type)) for name, (data, text_type) in job["folders"].items()
    }
    arrays = {"templates": np.array([template("NAME") for template in templates])}
    for text_type in job["text_types"]:
        data = DatasetFromFile(job["data"], transform=transform, classes=text_type)
        features = model.encode_image(torch.stack([image for image, _ in data]))
        images = features[0] if isinstance(features, tuple) else features  # bioclip-2's has two projections
        texts = theirs.zero_shot_classifier(model, data.classes, templates, arguments)
        top = (torch.nn.functional.normalize(images, dim=-1) @ texts).argmax(dim=1)
        told[text_type] = classes(data) | {"named": top.tolist()}
        arrays |= {"images": images.numpy(), text_type: texts.numpy()}
    np.savez(job["outputs"], **arrays)
    return told


json.dump(main(json.load(sys.stdin)), sys.stdout)
