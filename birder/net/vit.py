"""The Vision Transformer, in the Birder format's parameter names.

Dosovitskiy et al., "An Image is Worth 16x16 Words" (arXiv 2010.11929), section 3.1; with `pre_norm` the variant of CLIP
(Radford et al., arXiv 2103.00020, section 2.4): a LayerNorm before the blocks and no bias in the patch projection.

Shapes: B images, H x W pixels, p the patch size, T = 1 + (H/p)(W/p) tokens (the class token first, then the patches row
by row), D the hidden dimension.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from birder.errors import ConfigError
from birder.net.base import Backbone, DropPath, known_config, stochastic_depth_rates

_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("patch_size", "num_layers", "num_heads", "hidden_dim", "mlp_dim"), ...),
    "drop_path_rate": 0.0,
    "head_bias": True,
    "mlp_head": False,
    "pre_norm": False,
    "norm_layer_eps": 1e-6,
    "act_layer_type": "gelu",
    "out_indices": None,
}
# Further keys of the published package's ViT, and the values at which it is this network.
_NEUTRAL: dict[str, Any] = {
    "abs_pos_embed": True,
    "pos_embed_special_tokens": True,
    "pos_embed_interpolation_mode": "bicubic",
    "pos_embed_antialias": False,
    "stem_type": "patchify",
    "stem_norm_layer_type": None,
    "layer_scale_init_value": None,
    "post_norm": True,
    "norm_after_pool": False,
    "qkv_bias": True,
    "qk_norm": False,
    "attn_norm": False,
    "num_reg_tokens": 0,
    "class_token": True,
    "attn_pool_head": False,
    # The pool's own settings say nothing without the pool.
    **dict.fromkeys(
        (
            "attn_pool_type",
            "attn_pool_num_heads",
            "attn_pool_special_tokens",
            "attn_pool_norm_eps",
            "attn_pool_act_layer_type",
        ),
        ...,
    ),
    "norm_layer_type": "LayerNorm",
    "mlp_layer_type": "FFN",
    "soft_moe_num_experts": None,
    "soft_moe_num_slots": ...,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "projection_dropout": 0.0,
    "drop_path_uniform": False,
}


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation of GELU that OpenAI's CLIP was trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, T, D); if `is_causal`, a token sees only itself and those before it."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.is_causal = False
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=self.is_causal)
        return self.proj(x.transpose(1, 2).reshape(B, T, D))  # type: ignore[no-any-return]

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The first token of what `forward` gives, (B, 1, D): one query in place of T."""
        B, _, D = x.shape
        x = x[:, :1] if self.is_causal else x
        weight, bias = self.qkv.weight, self.qkv.bias
        q = F.linear(x[:, :1], weight[:D], bias[:D])
        k, v = F.linear(x, weight[D:], bias[D:]).chunk(2, dim=-1)
        q, k, v = (each.reshape(B, -1, self.num_heads, D // self.num_heads).transpose(1, 2) for each in (q, k, v))
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, 1, D))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A pre-norm transformer block over tokens (B, T, D)."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, eps: float, act: type[nn.Module], drop: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        # The format numbers the second linear layer 3: a dropout stood at 2, where nothing has parameters.
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), act(), nn.Identity(), nn.Linear(mlp_dim, dim))
        self.drop_path = DropPath(drop)

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), attn_mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]

    def first(self, x: torch.Tensor) -> torch.Tensor:
        """The first token of what `forward` gives, (B, 1, D)."""
        x = x[:, :1] + self.drop_path(self.attn.first(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """The blocks, with an optional LayerNorm before them."""

    def __init__(self, pre_norm: nn.Module | None, blocks: list[Block]) -> None:
        super().__init__()
        self.pre_block = nn.Sequential(*([pre_norm] if pre_norm is not None else []))
        self.block = nn.ModuleList(blocks)
        self.checkpointing: dict[str, Any] | None = None

    def forward(self, x: torch.Tensor, attn_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.forward_features(x, [len(self.block) - 1], attn_mask)[0]

    def class_token(self, x: torch.Tensor) -> torch.Tensor:
        """The class token alone after the last block, (B, D): that block computes nothing for the others."""
        last = len(self.block) - 1
        x = self.forward_features(x, [last - 1])[0] if last else self.pre_block(x)
        block: Block = self.block[last]  # type: ignore[assignment]
        return block.first(x)[:, 0]

    def forward_features(
        self, x: torch.Tensor, out_indices: list[int] | None = None, attn_mask: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Tokens (B, T, D) after each block of `out_indices`, in their order; default: after every block."""
        indices = list(range(len(self.block))) if out_indices is None else out_indices
        x = self.pre_block(x)
        after: dict[int, torch.Tensor] = {}
        for i, block in enumerate(self.block[: max(indices, default=-1) + 1]):
            if self.checkpointing is not None and torch.is_grad_enabled():
                x = checkpoint(block, x, attn_mask, **self.checkpointing)
            else:
                x = block(x, attn_mask)
            if i in indices:
                after[i] = x
        return [after[i] for i in indices]


class ViT(Backbone):
    """A Vision Transformer whose embedding is its class token after the final norm.

    Parameters
    ----------
    input_channels
        Channels of the input.
    num_classes
        Outputs of the classifier; 0 for none.
    size
        Input (height, width) in pixels, each divisible by the patch size; default: 224 x 224.
    config
        `patch_size, num_layers, num_heads, hidden_dim, mlp_dim` (all required), and optionally `drop_path_rate` (of the
        last block, growing linearly from 0), `head_bias`, `mlp_head` (a hidden layer before the classifier),
        `pre_norm`, `norm_layer_eps`, `act_layer_type` ("gelu" or "quick_gelu"), `out_indices` (blocks whose patch
        tokens `detection_features` returns; negative from the end).
        Other keys of the published package may stand at the value that changes nothing.

    Raises
    ------
    UnknownNameError
        The configuration has an unknown key.
    ConfigError
        A value that no network can be built with, or that Birder's does not have.
    """

    block_group_regex = r"encoder\.block\.(\d+)"
    num_special_tokens = 1
    detector_config: ClassVar[dict[str, Any]] = {"out_indices": [-1]}  # the last block's map, before the final norm

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        config: dict[str, Any] | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(input_channels, num_classes, config=config, size=size)
        config = known_config("ViT", self.config, _DEFAULTS, _NEUTRAL)
        p, dim, heads, layers = (config[k] for k in ("patch_size", "hidden_dim", "num_heads", "num_layers"))
        if min(p, dim, heads, layers, config["mlp_dim"]) < 1 or dim % heads:
            raise ConfigError(f"hidden_dim {dim} must be a multiple of num_heads {heads}, and every size at least 1.")
        if layers > 1000:
            raise ConfigError(f"num_layers {layers} is more than the 1,000 that Birder builds.")
        activation = config["act_layer_type"] or "gelu"
        if activation not in ACTIVATIONS:
            raise ConfigError(f"act_layer_type {activation!r} is none of {', '.join(ACTIVATIONS)}.")

        self.patch_size: int = p
        self.max_stride = self.stem_stride = p
        self.embedding_size = self.feature_dim = self.stem_width = dim
        self.out_indices = _normalise_indices(config["out_indices"], layers)
        if self.out_indices is None:
            self.return_stages = ["neck"]
        else:
            self.return_stages = [f"stage{i + 1}" for i in range(len(self.out_indices))]
        self.return_channels = [dim] * len(self.return_stages)

        eps = config["norm_layer_eps"]
        act = ACTIVATIONS[activation]
        drops = stochastic_depth_rates(config["drop_path_rate"], layers)
        grid = self._grid(self.size)

        self.conv_proj = nn.Conv2d(input_channels, dim, kernel_size=p, stride=p, bias=not config["pre_norm"])
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.empty(1, 1 + grid[0] * grid[1], dim).normal_(std=0.02))
        self.encoder = Encoder(
            nn.LayerNorm(dim, eps=eps) if config["pre_norm"] else None,
            [Block(dim, heads, config["mlp_dim"], eps, act, drop) for drop in drops],
        )
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.classifier = self.create_classifier()

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patches (rows, columns) of an input (height, width)."""
        p = self.patch_size
        if min(size) < p or size[0] % p or size[1] % p:
            raise ConfigError(f"Size {size[0]} x {size[1]} is not divisible by the patch size {p}.")
        return size[0] // p, size[1] // p

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Embedded tokens (B, T, D) before the encoder. x: (B, C, H, W)."""
        size = (x.shape[-2], x.shape[-1])
        pos_embedding: torch.Tensor = self.pos_embedding
        if size != self.size:
            if not self.dynamic_size:
                raise ConfigError(
                    f"The network takes {self.size[0]} x {self.size[1]} pixels, the input {size[0]} x {size[1]}. "
                    f"Call adjust_size(({size[0]}, {size[1]})) first."
                )
            pos_embedding = self._positions(size, antialias=False)
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + pos_embedding

    def _positions(self, size: tuple[int, int], antialias: bool) -> torch.Tensor:
        """The position embeddings interpolated (bicubic) to an input (height, width)."""
        patches = self.pos_embedding[:, 1:].float().transpose(1, 2).reshape(1, -1, *self._grid(self.size))
        patches = F.interpolate(patches, size=self._grid(size), mode="bicubic", antialias=antialias)
        patches = patches.flatten(2).transpose(1, 2).to(self.pos_embedding.dtype)
        return torch.cat([self.pos_embedding[:, :1], patches], dim=1)

    def _patch_map(self, tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Patch tokens (B, T, D) of an input (height, width) as a map (B, D, H/p, W/p)."""
        return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], -1, *self._grid(size))

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        return (*self._grid(self.size), self.embedding_size)

    def forward_features(
        self, x: torch.Tensor, attn_mask: torch.Tensor | None = None, return_input_embedding: bool = False
    ) -> torch.Tensor:
        """All tokens after the final norm, (B, T, D).

        Parameters
        ----------
        x
            (B, C, H, W) float.
        attn_mask
            Which token sees which, bool (T, T), or what is added to the attention's logits, float (T, T).
        return_input_embedding
            Give the tokens before the encoder too: (B, T, D, 2).
        """
        tokens = self._tokens(x)
        features: torch.Tensor = self.norm(self.encoder(tokens, attn_mask))
        return torch.stack([tokens, features], dim=-1) if return_input_embedding else features

    def embedding_from_features(self, features: torch.Tensor) -> torch.Tensor:
        """The class token, (B, D), of all tokens after the final norm."""
        return features[:, 0]

    def embedding(self, x: torch.Tensor) -> torch.Tensor:
        """The class token after the final norm, (B, D). x: (B, C, H, W) float."""
        return self.norm(self.encoder.class_token(self._tokens(x)))  # type: ignore[no-any-return]

    def detection_features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Patch tokens as maps (B, D, H/p, W/p).

        Without `out_indices`, one map "neck" after the final norm; with it, "stage1", "stage2", ... after those blocks,
        before the final norm.
        """
        size = (x.shape[-2], x.shape[-1])
        if self.out_indices is None:
            return {"neck": self._patch_map(self.forward_features(x), size)}
        stages = self.encoder.forward_features(self._tokens(x), self.out_indices)
        return {name: self._patch_map(tokens, size) for name, tokens in zip(self.return_stages, stages, strict=True)}

    def strip_for_detection_features(self) -> None:
        super().strip_for_detection_features()
        if self.out_indices is not None:
            self.norm = nn.Identity()  # type: ignore[assignment]

    def freeze_stages(self, up_to_stage: int) -> None:
        self.conv_proj.requires_grad_(False)
        self.pos_embedding.requires_grad_(False)
        if up_to_stage > 0:
            last = sorted(self.out_indices or [len(self.encoder.block) - 1])[:up_to_stage][-1]
            self.encoder.pre_block.requires_grad_(False)
            self.encoder.block[: last + 1].requires_grad_(False)

    def _get_input_conv(self) -> nn.Conv2d:
        return self.conv_proj

    def adjust_size(self, new_size: tuple[int, int]) -> None:
        """Interpolate the position embeddings to another input (height, width): bicubic, antialiased."""
        if self._grid(new_size) != self._grid(self.size):
            self.pos_embedding = nn.Parameter(
                self._positions(new_size, antialias=True).detach(), requires_grad=self.pos_embedding.requires_grad
            )
        super().adjust_size(new_size)

    def set_grad_checkpointing(
        self,
        enable: bool = True,
        *,
        segments: int | None = None,
        preserve_rng_state: bool = True,
        use_reentrant: bool = False,
    ) -> None:
        self.encoder.checkpointing = (
            {"preserve_rng_state": preserve_rng_state, "use_reentrant": use_reentrant} if enable else None
        )

    def set_causal_attention(self, is_causal: bool = True) -> None:
        """Let each token see only itself and those before it, in raster order."""
        for block in self.encoder.block:
            block.attn.is_causal = is_causal  # type: ignore[union-attr]

    def features_head(self) -> nn.Module:
        return self.norm


def _normalise_indices(indices: list[int] | None, layers: int) -> list[int] | None:
    if indices is None:
        return None
    positive = [i + layers if i < 0 else i for i in indices]
    if not positive or any(not 0 <= i < layers for i in positive):
        raise ConfigError(f"out_indices {list(indices)} must name blocks from {-layers} to {layers - 1}.")
    return positive
