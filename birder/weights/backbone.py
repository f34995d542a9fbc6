"""What is the same of two files of weights whose classifiers differ: a sha256 of the backbone's tensors alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Mapping

import torch

from birder.errors import WriteError
from birder.files import replacing
from birder.weights.hub import cache_folder

_CLASSIFIER = "classifier."
_SHA256 = re.compile(r"[0-9a-f]{64}")


def backbone_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """The sha256 of a network's tensors without its classifier's.

    Parameters
    ----------
    state
        Parameters and buffers by the Birder format's names, of a checkpoint or from `net.state_dict()`.

    Returns
    -------
    64 hexadecimal digits, over each tensor's name, dtype, shape and bytes, sorted by name. Floating-point numbers count
    as float32, which holds float16 and bfloat16 exactly: a file in half precision and the network that was loaded from
    it have the same sum.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.startswith(_CLASSIFIER):
            continue
        tensor = state[name].detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        head = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        digest.update(json.dumps(head).encode() + b"\n")
        digest.update(tensor.contiguous().reshape(-1).numpy().data)
    return digest.hexdigest()


def kept_backbone_sha256(weights_sha256: str, read: Callable[[], Mapping[str, torch.Tensor]]) -> str:
    """The same of a file of weights, computed once and then kept in Birder's cache.

    Parameters
    ----------
    weights_sha256
        Of the file.
    read
        Reads its state.
    """
    kept = cache_folder() / "backbones" / weights_sha256
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _SHA256.fullmatch(text := kept.read_text("ascii")):
            return text
    found = backbone_sha256(read())
    with contextlib.suppress(WriteError), replacing(kept) as draft:  # a cache that cannot be written costs only time
        draft.write_text(found, "ascii")
    return found
