"""What a CLIP training leaves: the model in OpenCLIP's layout, its image encoder as a checkpoint, and its record."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from birder.errors import write_error
from birder.evaluation.provenance import versions
from birder.files import replacing
from birder.learning.clip import BETAS, EPS, WEIGHT_DECAY, ClipData, ClipRecipe, TrainedClip
from birder.learning.clip_data import DataReport
from birder.learning.clip_model import Start, text_size
from birder.net.clip import TextEncoder
from birder.net.vit import Block
from birder.weights.checkpoint import write_checkpoint, write_safetensors
from birder.weights.openclip import read_openclip
from birder.weights.openclip_convert import clip_config, clip_state, to_birder
from birder.weights.openclip_files import CONFIG_FILE, SAFETENSORS_FILE

SCHEMA_VERSION = 1
METRICS = "metrics.json"
_LISTED = 1000  # failures in metrics.json


def write_clip(folder: Path, start: Start) -> Path:
    """Write a CLIP in OpenCLIP's layout, and its image encoder in the Birder format.

    Parameters
    ----------
    folder
        Where to write `open_clip_config.json`, `open_clip_model.safetensors` and `NETWORK_clip.pt`.
    start
        What the training began with; its `clip` is written.

    Returns
    -------
    The path of the image encoder's checkpoint.

    Raises
    ------
    WriteError
        The folder cannot be written.
    """
    clip, text = start.clip, start.clip.text
    size = text_size(text)
    config = clip_config(
        start.network,
        clip.image.config,
        (clip.image.size[0], clip.image.size[1]),
        text.projection.out_features,
        {
            "context_length": size.context,
            "vocab_size": text.token_embedding.num_embeddings,
            "width": size.width,
            "heads": size.heads,
            "layers": size.layers,
            **_mlp_ratio(text),
        },
    )
    config["preprocess_cfg"] = start.preprocess | {name: list(start.rgb_stats[name]) for name in ("mean", "std")}
    state = clip_state(
        start.network, dict(clip.image.state_dict()), dict(text.state_dict()), clip.log_logit_scale.detach()
    )
    kept = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    try:
        with replacing(folder / SAFETENSORS_FILE) as draft:
            write_safetensors(draft, kept, {"format": "pt"})
        with replacing(folder / CONFIG_FILE) as draft:
            draft.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        network, checkpoint = to_birder(read_openclip(folder))
        return write_checkpoint(folder / f"{network}_clip.pt", checkpoint)
    except OSError as error:
        raise write_error(folder, error) from error


def _mlp_ratio(text: TextEncoder) -> dict[str, float]:
    """OpenCLIP's mlp_ratio, where it is not the usual 4."""
    block = text.block[0]
    assert isinstance(block, Block) and isinstance(block.mlp[0], nn.Linear)
    wide, hidden = text.token_embedding.embedding_dim, block.mlp[0].out_features
    return {} if hidden == 4 * wide else {"mlp_ratio": hidden / wide}


def record_of(
    start: Start,
    data: ClipData,
    recipe: ClipRecipe,
    trained: TrainedClip,
    *,
    precision: str,
    device: str,
    processes: int,
) -> dict[str, Any]:
    """What metrics.json holds: what was trained, on what, how, and what each epoch gave."""
    clip = start.clip
    images = recipe.batch_size * recipe.accumulate * processes
    updates = trained.history[-1]["update"] if trained.history else 0
    return {
        "schema": SCHEMA_VERSION,
        "model": {
            "network": start.network,
            "size": list(clip.image.size),
            "text": asdict(text_size(clip.text)),
            "parameters": sum(each.numel() for each in clip.parameters()),
            "learning": sum(each.numel() for each in clip.parameters() if each.requires_grad),
        },
        "init": {"name": start.name, "sha256": start.sha256},
        "recipe": asdict(recipe) | {"texts": list(recipe.texts), "precision": precision},
        "optimizer": {"name": "AdamW", "betas": list(BETAS), "eps": EPS, "weight_decay": WEIGHT_DECAY},
        "data": {
            "shards": len(data.shards),
            "samples": data.samples,
            "replayed_shards": len(data.replay),
            "workers": data.workers,
            **_report(trained.report),
        },
        "images_per_update": images,
        "updates": updates,
        "history": trained.history,
        "device": device,
        "processes": processes,
        "seconds": round(trained.seconds, 1),
        "waited_for_data": round(trained.waited, 1),
        "images_per_second": round(images * updates / max(trained.seconds, 1e-9), 2),
        "versions": versions(),
    }


def _report(report: DataReport) -> dict[str, Any]:
    failed = dict(sorted(report.failed.items())[:_LISTED])
    return {
        "failed": failed,
        "more_failed": len(report.failed) - len(failed) + report.more_failed,
        "replaced": [
            {"text": asked, "taken": taken, "samples": count}
            for (asked, taken), count in sorted(report.replaced.items())
        ],
    }


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write metrics.json."""
    with replacing(folder / METRICS) as draft:
        draft.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
