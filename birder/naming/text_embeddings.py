"""Text embeddings of labels: encoded once, then kept in Birder's cache by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from birder.naming.cache import cached_path, keep
from birder.naming.prompts import OPENAI_TEMPLATES, check_templates, fill

_LABELS_AT_ONCE = 256


class TextEncoder(Protocol):
    """What turns texts into features, such as `birder.weights.clip.LoadedClip`."""

    def encode_text(self, texts: Sequence[str], normalize: bool = False) -> torch.Tensor:
        """Features (len(texts), D) float32, of length 1 with `normalize`."""


def encode_labels(
    encoder: TextEncoder,
    labels: Sequence[str],
    templates: Sequence[str] = OPENAI_TEMPLATES,
    *,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Text embeddings of labels: the mean over templates of unit-length text features, scaled to length 1.

    The ensemble of Radford et al. (arXiv 2103.00020, section 3.1.4).

    Parameters
    ----------
    encoder
        The text encoder.
    labels
        N labels, e.g. "owl" or "Strix aluco".
    templates
        Texts with one {} each, where the label goes.
    progress
        Called with the number of labels that were just finished.

    Returns
    -------
    float32 (D, N), columns of length 1.

    Raises
    ------
    ConfigError
        A template has no {} or more than one.
    """
    check_templates(templates)
    blocks = []
    for start in range(0, len(labels), _LABELS_AT_ONCE):
        block = labels[start : start + _LABELS_AT_ONCE]
        texts = [text for label in block for text in fill(templates, label)]
        features = encoder.encode_text(texts, normalize=True).float().cpu().reshape(len(block), len(templates), -1)
        blocks.append(torch.nn.functional.normalize(features.mean(1), dim=-1))
        if progress is not None:
            progress(len(block))
    return np.ascontiguousarray(torch.cat(blocks).numpy().T)


def cached_labels(
    encoder: TextEncoder,
    labels: Sequence[str],
    templates: Sequence[str] = OPENAI_TEMPLATES,
    *,
    model_id: str,
    progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """`encode_labels`, from the cache if the same labels and templates were encoded with the same model before.

    Parameters
    ----------
    model_id
        What identifies the model's content, such as the sha256 of its checkpoint.

    Returns
    -------
    float32 (D, N), columns of length 1.
    """
    content = json.dumps([model_id, list(labels), list(templates)], ensure_ascii=False).encode("utf-8", "surrogatepass")
    path = cached_path("text-embeddings", f"{hashlib.sha256(content).hexdigest()}.npy")
    # A damaged file is computed again: the cache holds nothing that cannot be.
    with suppress(OSError, ValueError, EOFError):
        matrix: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
        if matrix.dtype == np.float32 and matrix.ndim == 2 and matrix.shape[1] == len(labels):
            return matrix
    matrix = encode_labels(encoder, labels, templates, progress=progress)
    keep(path, lambda file: np.save(file, matrix, allow_pickle=False))
    return matrix
