"""Full-size CLIP models of open_clip_torch against Birder's, in one process.

    PYTHONPATH=. .venv-peers/bin/python tests/peers/openclip_full_size.py [ViT-B-16 ViT-L-14 ViT-H-14]

Each model is randomly initialised, saved in OpenCLIP's layout, and read by Birder. Compared: features of two images
before normalisation, through the converted checkpoint in the Birder format and by the arithmetic of `birder convert
--verify`; features of texts; tokens; and the round trip to OpenCLIP's layout and back into open_clip, bit for bit. The
exit code is 1 if a relative difference (largest difference over largest value) is above 1e-5.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from pathlib import Path

import open_clip
import safetensors.torch
import torch

from birder.net.tokenizer import ClipTokenizer
from birder.weights.checkpoint import read_checkpoint, write_checkpoint
from birder.weights.load import load_model
from birder.weights.loaded_clip import build_clip
from birder.weights.openclip import read_openclip
from birder.weights.openclip_convert import to_birder, to_openclip, write_openclip
from birder.weights.openclip_files import CONFIG_FILE, SAFETENSORS_FILE
from birder.weights.openclip_verify import openclip_image_features

LIMIT = 1e-5
TEXTS = [
    "a photo of Panthera leo.",
    "Animalia Chordata Aves Passeriformes Corvidae Corvus corax",
    "Ocimum × africanum",
    "",
]


def fill(model: torch.nn.Module) -> None:
    """Move what initialises to 0 or 1, which would hide a mistake: biases and norms."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference over largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.inference_mode()
def compare(name: str, folder: Path) -> bool:
    """Print the differences of one model; whether all are small enough."""
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None).eval()
    fill(model)
    x = torch.randn(2, 3, 224, 224)
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    image, text = model.encode_image(x), model.encode_text(tokens)
    scale = float(model.logit_scale.exp())
    safetensors.torch.save_file(model.state_dict(), folder / SAFETENSORS_FILE)
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    original = {key: value.clone() for key, value in model.state_dict().items()} if "H-14" not in name else None
    del model
    gc.collect()

    clip = read_openclip(folder)
    network, checkpoint = to_birder(clip)
    path = write_checkpoint(folder / f"{network}_full.safetensors", checkpoint)
    del checkpoint
    net, _ = load_model(network, path, inference=True)
    vision = clip.model_config["vision_cfg"]
    heads = vision["width"] // vision.get("head_width", 64)
    differences = {
        "image features": relative(net(x), image),
        "the arithmetic of --verify": relative(
            openclip_image_features(
                clip.state, x, num_heads=heads, quick_gelu=bool(clip.model_config.get("quick_gelu"))
            ),
            image,
        ),
    }
    del net
    gc.collect()
    _, whole = build_clip(clip)
    differences["text features"] = relative(whole.encode_text(tokens), text)
    differences["logit scale"] = abs(whole.logit_scale - scale) / scale
    del whole
    gc.collect()
    differences["tokens"] = float((ClipTokenizer()(TEXTS) != tokens).sum())

    back = folder / "back"
    write_openclip(back, *to_openclip(network, read_checkpoint(path), clip))
    path.unlink()
    if original is None:  # two copies of the largest do not fit into every memory: compare the files' tensors
        original = clip.state
    again = open_clip.create_model(f"local-dir:{back}").state_dict()
    lost = [key for key in original if not torch.equal(original[key], again[key])] + sorted(set(original) ^ set(again))
    differences["tensors changed by the round trip"] = float(len(lost))

    for what, difference in differences.items():
        print(f"{name} as {network}: {what}: {difference:.2e}", flush=True)
    return all(difference <= LIMIT for difference in differences.values())


def main() -> int:
    """Compare the models named on the command line, or all three."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    fine = True
    for name in sys.argv[1:] or ["ViT-B-16", "ViT-L-14", "ViT-H-14"]:
        with tempfile.TemporaryDirectory() as folder:
            fine &= compare(name, Path(folder))
        gc.collect()
    print("all within" if fine else "NOT all within", LIMIT)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
