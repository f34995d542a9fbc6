"""A CLIP made by a test, in OpenCLIP's layout."""

from __future__ import annotations

from typing import Any

import torch

from birder.net.clip import CLIP
from birder.weights.openclip_convert import clip_config, clip_state
from birder.weights.openclip_files import OPENAI_RGB


def as_openclip(network: str, net: CLIP) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A CLIP with a text encoder of width 12, written as one of OpenCLIP."""
    text = {"context_length": 16, "width": 12, "heads": 2, "layers": 2, "mlp_ratio": 31.5 / 12}
    config = clip_config(network, net.image.config, (224, 224), 8, text)
    preprocess = {"resize_mode": "squash", "interpolation": "bicubic", **OPENAI_RGB}
    state = clip_state(network, net.image.state_dict(), net.text.state_dict(), net.log_logit_scale.detach())
    return config | {"preprocess_cfg": preprocess}, state
