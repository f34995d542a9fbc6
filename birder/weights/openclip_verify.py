"""The image encoder computed from OpenCLIP's own tensors, to compare a conversion with.

The arithmetic is written down once more, from OpenCLIP's layout: `torch.nn.functional.multi_head_attention_forward` on
the fused projection and matrices that multiply from the right, sharing only QuickGELU with `birder.net.vit`. That it is
what OpenCLIP itself computes is checked at full size in `tests/peers/openclip_full_size.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from birder.net.vit import QuickGELU
from birder.weights.openclip import State


def openclip_image_features(state: State, x: torch.Tensor, *, num_heads: int, quick_gelu: bool) -> torch.Tensor:
    """Image features before normalisation, float32 (B, E), by OpenCLIP's arithmetic.

    Parameters
    ----------
    state
        Tensors by OpenCLIP's names (`visual.*`).
    x
        (B, 3, H, W) float32, normalised.
    num_heads, quick_gelu
        What the shapes do not show.
    """
    v = {key.removeprefix("visual."): value.float() for key, value in state.items() if key.startswith("visual.")}
    patch, width = v["conv1.weight"].shape[-1], v["conv1.weight"].shape[0]
    x = F.conv2d(x, v["conv1.weight"], stride=patch).flatten(2).permute(2, 0, 1)  # (patches, B, D)
    x = torch.cat([v["class_embedding"].expand(1, x.shape[1], width), x]) + v["positional_embedding"].unsqueeze(1)
    x = F.layer_norm(x, (width,), v["ln_pre.weight"], v["ln_pre.bias"])
    act = QuickGELU() if quick_gelu else F.gelu
    layers = sum(key.endswith("ln_1.weight") for key in v)
    for i in range(layers):
        b = {key.removeprefix(f"transformer.resblocks.{i}."): value for key, value in v.items()}
        h = F.layer_norm(x, (width,), b["ln_1.weight"], b["ln_1.bias"])
        h, _ = F.multi_head_attention_forward(
            h, h, h, width, num_heads, b["attn.in_proj_weight"], b["attn.in_proj_bias"], None, None, False, 0.0,
            b["attn.out_proj.weight"], b["attn.out_proj.bias"], training=False, need_weights=False,
        )  # fmt: skip
        x = x + h
        h = F.layer_norm(x, (width,), b["ln_2.weight"], b["ln_2.bias"])
        h = act(F.linear(h, b["mlp.c_fc.weight"], b["mlp.c_fc.bias"]))
        x = x + F.linear(h, b["mlp.c_proj.weight"], b["mlp.c_proj.bias"])
    return F.layer_norm(x[0], (width,), v["ln_post.weight"], v["ln_post.bias"]) @ v["proj"]
