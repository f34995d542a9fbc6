"""pybioclip's half of the comparison: run by the interpreter of .venv-peers.

Reads one JSON job from standard input:
    {"do": "write", folder}: write a small, randomly filled CLIP in OpenCLIP's layout
    {"do": "predict", folder, embeddings, names, images, subset, labels, bins, k}: predict; JSON on standard output
    {"do": "texts", folder, labels, outputs}: the templates, the classes and their text embeddings (E, C), to file.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from bioclip import predict
from bioclip.predict import CustomLabelsBinningClassifier, CustomLabelsClassifier, Rank, TreeOfLifeClassifier

CONFIG = {
    "model_cfg": {
        "embed_dim": 192,
        "vision_cfg": {"image_size": 224, "layers": 3, "width": 96, "patch_size": 32, "head_width": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}


def write(folder: Path) -> None:
    torch.manual_seed(0)
    net = open_clip.CLIP(**CONFIG["model_cfg"]).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        net.logit_scale.fill_(float(torch.tensor(100.0).log()))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.save(net.state_dict(), folder / "open_clip_pytorch_model.bin")


def run(job: dict[str, Any]) -> dict[str, Any]:
    model = f"local-dir:{job['folder']}"
    # The only thing replaced: where the label table comes from, which is the hub's data set otherwise.
    predict.TOL_MODELS[model] = "here"
    files = {"embeddings/txt_emb_species.npy": job["embeddings"], "embeddings/txt_emb_species.json": job["names"]}

    class Local(TreeOfLifeClassifier):
        def get_cached_datafile(self, filename: str) -> str:
            return files[filename]

    tree = Local(model_str=model)
    results = {rank: tree.predict(job["images"], Rank[rank.upper()], k=job["k"]) for rank in job["ranks"]}
    tree.apply_filter(tree.create_taxa_filter_from_csv(job["subset"]))
    results["subset"] = tree.predict(job["images"], Rank.GENUS, k=job["k"])
    results["labels"] = CustomLabelsClassifier(job["labels"], model_str=model).predict(job["images"], k=job["k"])
    results["bins"] = CustomLabelsBinningClassifier(job["bins"], model_str=model).predict(job["images"], k=job["k"])
    return results


def texts(job: dict[str, Any]) -> None:
    classifier = CustomLabelsClassifier(job["labels"], model_str=f"local-dir:{job['folder']}")
    templates = [template("NAME") for template in predict.OPENA_AI_IMAGENET_TEMPLATE]
    embeddings = classifier.txt_embeddings.numpy()
    np.savez(job["outputs"], templates=np.array(templates), classes=np.array(classifier.classes), texts=embeddings)


def main() -> None:
    job = json.load(sys.stdin)
    if job["do"] == "write":
        write(Path(job["folder"]))
    elif job["do"] == "texts":
        texts(job)
    else:
        json.dump(run(job), sys.stdout)


main()
