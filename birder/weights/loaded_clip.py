"""A CLIP model that is loaded: image encoder, text encoder, tokenizer and transform."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from birder.errors import WeightsError
from birder.images.transform import ClassificationTransform, classification_transform
from birder.net.base import Backbone
from birder.net.clip import CLIP, TextEncoder
from birder.net.tokenizer import ClipTokenizer
from birder.registry import create_network
from birder.weights.checkpoint import check_finite, get_num_labels_from_signature, get_size_from_signature
from birder.weights.hub import sha256_of
from birder.weights.openclip import OpenClip, check_text_encoder, read_openclip
from birder.weights.openclip_convert import text_state_to_birder, to_birder


class Scale(float):
    """The factor of similarities, which code written for open_clip may take for its logarithm."""

    def exp(self) -> torch.Tensor:
        """The number itself: `model.logit_scale.exp()` is what open_clip's users write."""
        return torch.tensor(float(self))


class LoadedClip(nn.Module):
    """A CLIP model for inference.

    It is used as open_clip's models are, and moved and cast as any module.

    Attributes
    ----------
    name
        As in `birder.weights.resolve.Model`.
    network
        The registered network of the image encoder.
    sha256
        Of the file that the tensors were read from; two models with the same sha256 are the same.
    net
        Both encoders, in evaluation mode, without gradients.
    tokenizer
        Texts to tokens.
    transform
        From a Pillow image to the image encoder's input, as OpenCLIP prepares it for this model: by default it keeps
        the aspect ratio and crops. For code written for open_clip; Birder itself uses `whole_image_transform`.
    """

    def __init__(
        self,
        *,
        name: str,
        network: str,
        sha256: str,
        net: CLIP,
        tokenizer: ClipTokenizer,
        transform: ClassificationTransform,
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.sha256 = sha256
        self.net = net
        self.tokenizer = tokenizer
        self.transform = transform
        self.eval()

    @property
    def visual(self) -> Backbone:
        """The image encoder: (B, 3, H, W) to image features (B, E)."""
        return self.net.image

    @property
    def logit_scale(self) -> Scale:
        """What cosine similarities are multiplied by before the softmax over texts; its `exp()` is the same number."""
        return Scale(self.net.logit_scale)

    @property
    def context_length(self) -> int:
        """The most tokens of a text."""
        return self.net.text.context_length

    @property
    def embedding_size(self) -> int:
        """E, the dimension of image and text features."""
        return self.net.text.projection.out_features

    @property
    def whole_image_transform(self) -> ClassificationTransform:
        """The transform with which Birder embeds and names images: the whole image, resized to the input.

        It is that of the same weights in the Birder format, so that features do not depend on where they came from.
        """
        return classification_transform(self.transform.size, {"mean": self.transform.mean, "std": self.transform.std})

    def forward(
        self, image: torch.Tensor | None = None, text: torch.Tensor | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
        """Features of length 1 of images (B, 3, H, W) and of tokens (N, L), and the scale, as open_clip gives them."""
        return (
            None if image is None else self.encode_image(image, normalize=True),
            None if text is None else self.encode_text(text, normalize=True),
            self.net.log_logit_scale.exp(),
        )

    def encode_image(self, image: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Image features (B, E). image: (B, 3, H, W) float, as `transform` gives it; `normalize` to length 1."""
        return self.net.encode_image(image.to(self._device), normalize)

    def project(self, embedding: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Image features (B, E) of stored embeddings (B, D) of the same image encoder."""
        return self.net.project(embedding.to(self._device), normalize)

    def encode_text(
        self, text: str | Sequence[str] | torch.Tensor, normalize: bool = False, *, batch_size: int = 256
    ) -> torch.Tensor:
        """Text features (N, E).

        Parameters
        ----------
        text
            Texts, or their tokens, int64 (N, context length), as `tokenizer` gives them.
        normalize
            Make their length 1.
        batch_size
            Texts that go through the network at once. Texts of similar length go together, which saves the arithmetic
            on padding.
        """
        tokens = text if isinstance(text, torch.Tensor) else self.tokenizer(text)
        order = tokens.argmax(dim=-1).argsort()
        scale = self.net.log_logit_scale
        features = torch.empty(len(tokens), self.embedding_size, device=scale.device, dtype=scale.dtype)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            encoded = self.net.encode_text(tokens[rows].to(scale.device), normalize)
            features[rows.to(scale.device)] = encoded.to(scale.dtype)
        return features

    @property
    def _device(self) -> torch.device:
        return self.net.log_logit_scale.device


def load_openclip(source: str, name: str, *, device: torch.device | str | None = None) -> LoadedClip:
    """Load a CLIP model from a folder or hub repository in OpenCLIP's layout, under a name."""
    openclip = read_openclip(source)
    network, net = build_clip(openclip)
    size = (net.image.size[0], net.image.size[1])
    return LoadedClip(
        name=name,
        network=network,
        sha256=sha256_of(openclip.weights_path),
        net=net.to(device=device),
        tokenizer=ClipTokenizer(net.text.context_length),
        transform=_transform(openclip, size),
    )


def build_clip(openclip: OpenClip) -> tuple[str, CLIP]:
    """Both encoders in float32 and evaluation mode, and the name of the image encoder's registered network."""
    check_text_encoder(openclip)
    check_finite(openclip.state, openclip.source)
    network, checkpoint = to_birder(openclip)
    text_state = text_state_to_birder(openclip.state, openclip.source)
    model = openclip.model_config
    text = model.get("text_cfg") or {}
    width = text.get("width", 512)
    outputs = get_num_labels_from_signature(checkpoint.signature)
    with torch.device("meta"):  # no time goes into random weights that are replaced at once
        image_encoder = create_network(
            network, outputs, size=get_size_from_signature(checkpoint.signature), config=checkpoint.config
        )
        text_encoder = TextEncoder(
            model["embed_dim"],
            vocabulary_size=text.get("vocab_size", 49408),
            context_length=text.get("context_length", 77),
            width=width,
            num_heads=text.get("heads", 8),
            num_layers=text.get("layers", 12),
            mlp_dim=int(width * text.get("mlp_ratio", 4.0)),
            act_layer_type="quick_gelu" if model.get("quick_gelu") else "gelu",
        )
    try:
        image_encoder.load_state_dict(checkpoint.state, assign=True)
        text_encoder.load_state_dict(text_state, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"Configuration and tensors of {openclip.source} do not belong to the same model: "
            f"{' '.join(str(error).split())[:400]}"
        ) from error
    net = CLIP(image_encoder, text_encoder)
    net.log_logit_scale.data = openclip.state["logit_scale"].detach().clone().reshape(())
    net = net.float().eval()
    net.requires_grad_(False)
    return network, net


def _transform(openclip: OpenClip, size: tuple[int, int]) -> ClassificationTransform:
    """The transform of the model's configuration; OpenCLIP's default keeps the aspect ratio and crops."""
    preprocess = openclip.preprocess_config
    mode = preprocess.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash") or (preprocess.get("interpolation") or "bicubic") != "bicubic":
        raise WeightsError(
            f"{openclip.source} prepares images by {mode!r} resizing with {preprocess.get('interpolation')!r} "
            "interpolation; Birder has 'shortest' and 'squash', both bicubic."
        )
    return classification_transform(size, openclip.rgb_stats, simple_crop=mode == "shortest")
