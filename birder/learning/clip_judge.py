"""What a CLIP is worth while it is trained: on validation shards, and on a labelled collection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from birder.errors import ConfigError, ImageError
from birder.images.transform import ClassificationTransform
from birder.learning.clip_data import ClipBatches
from birder.learning.clip_locked import LockedEncoder
from birder.learning.clip_model import Start, model_input
from birder.learning.parallel import Parallel
from birder.learning.training_data import TrainingImages, Views
from birder.naming.prompts import OPENAI_TEMPLATES
from birder.naming.text_embeddings import encode_labels
from birder.net.clip import CLIP
from birder.weights.loaded_clip import LoadedClip

MOST_VALIDATED = 50_000
"""Validation samples that are used, the first of the shards: their features are in memory together."""
_AT_ONCE = 1024  # rows of similarities
_BATCH = 64  # images


@dataclass(frozen=True)
class Judged:
    """Images with a label, to be named by the texts of the labels.

    Attributes
    ----------
    name
        Of the collection, or of the benchmark.
    images
        The images and their classes.
    classes
        Names of the C classes.
    templates
        Texts with one {} each, where the name goes.
    centre_crop
        Whether the shorter side of an image is resized and its centre cut out, as benchmarks ask, not all of it
        squashed.
    """

    name: str
    images: TrainingImages
    classes: Sequence[str]
    templates: Sequence[str] = OPENAI_TEMPLATES
    centre_crop: bool = False


class ClipJudge:
    """Measures a CLIP on validation shards and on labelled images.

    Parameters
    ----------
    start
        What the training began with.
    val
        Shards; empty for none.
    text
        The name of the text that an image is compared with.
    block
        How many samples the loss is computed among.
    judged
        Labelled images; None for none.
    parallel
        The processes; each does its share.
    locked
        What embeds the images, where the training leaves the image encoder as it is.
    """

    def __init__(
        self,
        start: Start,
        val: Sequence[str],
        text: str,
        block: int,
        judged: Judged | None,
        parallel: Parallel,
        locked: LockedEncoder | None = None,
    ) -> None:
        self._locked = locked
        self._start, self._val, self._text, self._judged, self._parallel = start, val, text, judged, parallel
        self._block = min(block, 4096)
        self._tokenizer = start.tokenizer

    @torch.no_grad()
    def __call__(self, clip: CLIP) -> dict[str, Any]:
        """What it is worth: `val`, as `retrieval` gives it, and `zero_shot`, a share of right names."""
        found: dict[str, Any] = {}
        if self._val:
            found["val"] = self._retrieval(clip)
        if self._judged is not None:
            found["zero_shot"] = self._zero_shot(clip, self._judged)
        return found

    def loaded(self, clip: CLIP) -> LoadedClip:
        """The CLIP as code for inference takes it."""
        stats, size = self._start.rgb_stats, self._start.clip.image.size
        transform = ClassificationTransform(size, stats["mean"], stats["std"])
        return LoadedClip(
            name="in training",
            network=self._start.network,
            sha256="",
            net=clip,
            tokenizer=self._tokenizer,
            transform=transform,
        )

    def _retrieval(self, clip: CLIP) -> dict[str, Any]:
        parallel = self._parallel
        most = -(-MOST_VALIDATED // parallel.processes)
        images: list[np.ndarray[Any, Any]] = []
        texts: list[str] = []
        with ClipBatches(
            self._val,
            self._start.card,
            self._tokenizer,
            _BATCH,
            lambda _: [self._text],
            parallel,
            workers=1,
            crop=False,
            once=True,
        ) as batches:
            for batch in batches:
                images.append(self._features(clip, batch.pixels))
                texts += batch.texts
                if len(texts) >= most:
                    break
        mine = sorted(set(texts))
        encoded = self.loaded(clip).encode_text(mine, normalize=True).float().cpu().numpy() if mine else None
        shares = parallel.gathered((np.concatenate(images) if images else None, texts, mine, encoded))
        by_text = {
            text: row for _, _, names, rows in shares if rows is not None for text, row in zip(names, rows, strict=True)
        }
        names = sorted(by_text)
        places = {text: place for place, text in enumerate(names)}
        codes = torch.tensor([places[text] for _, some, _, _ in shares for text in some], dtype=torch.int64)
        if not len(codes):
            raise ImageError("No sample of the validation shards can be read. Check --val.")
        features = torch.from_numpy(np.concatenate([each for each, _, _, _ in shares if each is not None]))
        text_features = torch.from_numpy(np.stack([by_text[name] for name in names]))
        return {"text": self._text} | retrieval(features, text_features, codes, clip.logit_scale, self._block)

    def _features(self, clip: CLIP, pixels: torch.Tensor) -> np.ndarray[Any, Any]:
        if self._locked is not None:
            return clip.project(self._locked(pixels), normalize=True).float().cpu().numpy()
        x = model_input(pixels, self._start.rgb_stats, self._parallel.device)
        return clip.encode_image(x, normalize=True).float().cpu().numpy()

    def _zero_shot(self, clip: CLIP, judged: Judged) -> dict[str, Any]:
        parallel = self._parallel
        texts = torch.from_numpy(encode_labels(self.loaded(clip), judged.classes, judged.templates))
        own = np.arange(parallel.rank, len(judged.images), parallel.processes)
        right = read = 0
        card = self._start.card | {"simple_crop": judged.centre_crop}
        with Views(judged.images, card, 0, share=parallel.on_machine) as views:
            for batch in views.whole([own[first : first + _BATCH] for first in range(0, len(own), _BATCH)]):
                if len(batch.rows):
                    logits = torch.from_numpy(self._features(clip, torch.from_numpy(batch.pixels))) @ texts
                    right += int((logits.argmax(dim=1).numpy() == judged.images.codes[batch.rows]).sum())
                    read += len(batch.rows)
        right, read = (int(each) for each in parallel.add(torch.tensor([right, read])))
        return {"images_of": judged.name, "classes": len(judged.classes), "n": read, "top1": right / max(read, 1)}


def retrieval(
    images: torch.Tensor, texts: torch.Tensor, codes: torch.Tensor, scale: float, block: int
) -> dict[str, float | int]:
    """How well images find their text, and texts their images; equal texts count as one.

    Parameters
    ----------
    images, texts
        Features of length 1, (N, E) and (T, E).
    codes
        int64 (N,): the text of each image.
    scale
        What cosine similarities are multiplied by.
    block
        How many samples, in their order, the loss is computed among.

    Returns
    -------
    `n` and `texts`, N and T; `loss`, CLIP's; `image_to_text_r1` and `_r5`, the share of images whose text is among the
    first one or five; `text_to_image_r1` and `_r5`, the share of texts with one of their images there.

    Raises
    ------
    ConfigError
        Features are not finite.
    """
    if not (images.isfinite().all() and texts.isfinite().all()):
        raise ConfigError("The CLIP gives features that are not finite: begin anew with a lower --lr.")
    total = 0.0
    for first in range(0, len(images), block):
        of_images, of_texts = images[first : first + block], texts[codes[first : first + block]]
        logits, own = scale * of_images @ of_texts.T, torch.arange(len(of_images))
        total += float(F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2 * len(of_images)
    before_text, before_image = [], []
    for first in range(0, len(images), _AT_ONCE):
        similar = images[first : first + _AT_ONCE] @ texts.T
        right = similar.gather(1, codes[first : first + _AT_ONCE, None])
        before_text.append((similar >= right).sum(dim=1) - 1)  # less the text itself; a tie is not a find
    for first in range(0, len(texts), _AT_ONCE):
        similar = texts[first : first + _AT_ONCE] @ images.T
        other = codes[None] != torch.arange(first, first + len(similar))[:, None]
        best = similar.masked_fill(other, -torch.inf).max(dim=1, keepdim=True).values
        before_image.append((similar.masked_fill(~other, -torch.inf) >= best).sum(dim=1))
    shares = {"image_to_text": torch.cat(before_text), "text_to_image": torch.cat(before_image)}
    return {
        "n": len(images),
        "texts": len(texts),
        "loss": total / len(images),
        **{f"{way}_r{k}": float((ranks < k).float().mean()) for way, ranks in shares.items() for k in (1, 5)},
    }
