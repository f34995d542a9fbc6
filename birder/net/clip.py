"""CLIP: an image encoder and a text encoder that embed into one space.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020), section 2.4.

Shapes: B rows, L tokens, D the text encoder's width, E the shared embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from birder.errors import ConfigError
from birder.net.base import Backbone
from birder.net.vit import ACTIVATIONS, Block

_EPS = 1e-5


class TextEncoder(nn.Module):
    """CLIP's text transformer: pre-norm blocks with causal attention, pooled at the end token, projected without bias.

    Parameters
    ----------
    embedding_size
        E.
    vocabulary_size
        Number of tokens; the end token is the highest.
    context_length
        The most tokens of a text.
    width, num_heads, num_layers, mlp_dim
        D, attention heads, blocks, and the hidden width of a block's MLP.
    act_layer_type
        "gelu" or "quick_gelu".
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        vocabulary_size: int,
        context_length: int,
        width: int,
        num_heads: int,
        num_layers: int,
        mlp_dim: int,
        act_layer_type: str = "gelu",
    ) -> None:
        super().__init__()
        if (
            min(embedding_size, vocabulary_size, context_length, num_heads, num_layers, mlp_dim) < 1
            or width % num_heads
        ):
            raise ConfigError(
                f"A text width of {width} must be a multiple of its {num_heads} heads, and no size below 1."
            )
        self.context_length = context_length
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.pos_embedding = nn.Parameter(torch.empty(context_length, width).normal_(std=0.01))
        self.block = nn.ModuleList(
            Block(width, num_heads, mlp_dim, _EPS, ACTIVATIONS[act_layer_type], drop=0.0) for _ in range(num_layers)
        )
        for block in self.block:
            block.attn.is_causal = True  # type: ignore[union-attr]
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.projection = nn.Linear(width, embedding_size, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings, (B, E), of tokens, int64 (B, L) with L at most `context_length`."""
        if tokens.ndim != 2 or not 0 < tokens.shape[1] <= self.context_length:
            raise ConfigError(f"Tokens have the shape {tuple(tokens.shape)}, not (texts, 1 to {self.context_length}).")
        end = tokens.argmax(dim=-1)
        # What follows the last end token is seen by no token that counts: attention is causal.
        tokens = tokens[:, : int(end.max()) + 1] if len(tokens) else tokens
        return self.encode(tokens, end)

    def encode(self, tokens: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """The same of tokens whose end tokens are at the places `end`, int64 (B,)."""
        x = self.token_embedding(tokens) + self.pos_embedding[: tokens.shape[1]]
        for block in self.block:
            x = block(x)
        return self.projection(self.norm(x[torch.arange(x.shape[0], device=x.device), end]))  # type: ignore[no-any-return]


class CLIP(nn.Module):
    """An image encoder whose classifier projects into the text encoder's space, and the temperature between the two.

    Parameters
    ----------
    image
        A backbone with E classes, without a bias: its logits are the image's embedding in the shared space.
    text
        The text encoder.
    """

    def __init__(self, image: Backbone, text: TextEncoder) -> None:
        super().__init__()
        if image.num_classes != text.projection.out_features:
            raise ConfigError(
                f"The image encoder projects to {image.num_classes} numbers, the text encoder to "
                f"{text.projection.out_features}: they do not belong to the same model."
            )
        self.image = image
        self.text = text
        self.log_logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    @property
    def logit_scale(self) -> float:
        """What cosine similarities are multiplied by before the softmax over texts."""
        return float(self.log_logit_scale.detach().exp())

    def encode_image(self, x: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Image features, (B, E). x: (B, 3, H, W) float; `normalize` makes their length 1."""
        return self.project(self.image.embedding(x), normalize)

    def project(self, embedding: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Image features, (B, E), of the image encoder's embeddings, such as a collection stores."""
        features = self.image.classify(embedding)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, tokens: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Text features, (B, E), of tokens, int64 (B, L); `normalize` makes their length 1."""
        features: torch.Tensor = self.text(tokens)
        return F.normalize(features, dim=-1) if normalize else features
