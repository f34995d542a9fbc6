"""Inference with a classification network: one image, a batch, or a data loader.

`out` is the softmax of the logits (or the logits themselves on request), (B, N) float32; `embedding` is what the
classifier sees, (B, D) float32. For the image encoders of CLIP models (BioCLIP) the classifier is the visual
projection: their logits are CLIP's image features, and a softmax over them means nothing; use the embedding, or
`return_logits=True` for the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch.nn.parallel import DataParallel, DistributedDataParallel

from birder.errors import ConfigError
from birder.images.open import open_image

FloatArray = npt.NDArray[np.float32]
DataloaderResult = tuple[list[str], FloatArray, npt.NDArray[np.int64], list[FloatArray]]
"""Paths, outputs (n, N), targets (n,), and the embeddings, one (B, D) array a batch (empty without embeddings)."""


@torch.inference_mode()
def infer_image(
    net: torch.nn.Module,
    sample: Image.Image | str | Path,
    transform: Callable[..., torch.Tensor],
    return_embedding: bool = False,
    tta: bool = False,
    return_logits: bool = False,
    device: torch.device | str | None = None,
    **kwargs: Any,
) -> tuple[FloatArray, FloatArray | None]:
    """Run a network on a single image.

    Parameters
    ----------
    net
        A network in evaluation mode: Birder's, also within `DataParallel`, or any module that gives logits, such as a
        traced one or a `Sequential`. Only what has `embedding` and `classify`, as Birder's have, gives an embedding.
    sample
        A path, opened safely and turned upright, or a Pillow image of any mode, taken as it is.
    transform
        Pillow image -> float tensor (3, H, W); see `birder.classification_transform`.
    return_embedding
        Return the embedding too. It is of the whole image, so it does not go with `tta`.
    tta
        Test-time augmentation: the mean of the outputs of five crops (corners and centre) of 80 % of each side.
    return_logits
        Return logits instead of their softmax.
    device
        Where the network is; default: the CPU.
    kwargs
        Passed on to the network.

    Returns
    -------
    (out, embedding): float32 arrays (1, N) and (1, D); the embedding is None unless asked for.

    Raises
    ------
    ImageError
        The file cannot be used as an image.
    TypeError
        `sample` is neither a path nor a Pillow image.
    ConfigError
        The network gives no embedding.
    """
    if isinstance(sample, str | Path):
        image = open_image(sample)
    elif isinstance(sample, Image.Image):
        image = sample
    else:
        raise TypeError(f"sample must be a path or a Pillow image, not {type(sample).__name__}.")
    inputs = transform(image).unsqueeze(0).to(device or "cpu")
    return infer_batch(net, inputs, return_embedding, tta, return_logits, **kwargs)


@torch.inference_mode()
def infer_batch(
    net: torch.nn.Module,
    inputs: torch.Tensor,
    return_embedding: bool = False,
    tta: bool = False,
    return_logits: bool = False,
    **kwargs: Any,
) -> tuple[FloatArray, FloatArray | None]:
    """Run a network on a batch, (B, 3, H, W) float, normalised. Arguments and results as in `infer_image`."""
    if return_embedding and tta:
        raise ConfigError("return_embedding and tta exclude each other: the embedding is of the whole image.")
    if return_embedding:
        network: Any = _unwrapped(net)
        if not (hasattr(network, "embedding") and hasattr(network, "classify")):
            raise ConfigError(
                f"A {type(network).__name__} gives logits alone: leave out return_embedding, or give the network."
            )
        embedding = network.embedding(inputs, **kwargs)
        out = _output(network.classify(embedding), return_logits)
        return _numpy(out), _numpy(embedding)
    if tta:
        outs = [_output(net(crop, **kwargs), return_logits) for crop in _five_crops(inputs)]
        return _numpy(torch.stack(outs).mean(dim=0)), None
    return _numpy(_output(net(inputs, **kwargs), return_logits)), None


def _unwrapped(net: torch.nn.Module) -> torch.nn.Module:
    """The network inside a wrapper that spreads it over devices."""
    inner: torch.nn.Module = net.module if isinstance(net, DataParallel | DistributedDataParallel) else net
    return inner


def _output(logits: torch.Tensor, return_logits: bool) -> torch.Tensor:
    return logits if return_logits else F.softmax(logits, dim=1)


def _numpy(x: torch.Tensor) -> FloatArray:
    return x.float().cpu().numpy()


def _five_crops(inputs: torch.Tensor) -> Iterator[torch.Tensor]:
    """Corners and centre, 80 % of each side, resized back to (H, W)."""
    height, width = inputs.shape[-2:]
    h, w = int(height * 0.8), int(width * 0.8)
    bottom, right = height - h, width - w
    middle = (round(bottom / 2), round(right / 2))
    for top, left in ((0, 0), (0, right), (bottom, 0), (bottom, right), middle):
        crop = inputs[..., top : top + h, left : left + w]
        yield F.interpolate(crop, size=(height, width), mode="bicubic", antialias=True)


def infer_dataloader_iter(
    device: torch.device | str,
    net: torch.nn.Module,
    dataloader: Iterable[Any],
    return_embedding: bool = False,
    tta: bool = False,
    return_logits: bool = False,
    channels_last: bool = False,
    model_dtype: torch.dtype = torch.float32,
    amp: bool = False,
    amp_dtype: torch.dtype | None = None,
    num_samples: int | None = None,
    batch_callback: Callable[[list[str], FloatArray, npt.NDArray[np.int64]], None] | None = None,
    chunk_size: float | None = None,
    **kwargs: Any,
) -> Iterator[DataloaderResult]:
    """Run a network over a data loader, yielding results in chunks.

    Parameters
    ----------
    device
        Where to run; the network is moved there.
    net
        As in `infer_image`.
    dataloader
        Yields (paths, inputs (B, 3, H, W), targets (B,)).
    return_embedding, tta, return_logits, kwargs
        As in `infer_image`.
    channels_last
        Bring the inputs into channels-last memory format.
    model_dtype
        Of the network and its inputs.
    amp, amp_dtype
        Automatic mixed precision.
    num_samples
        Number of images, for the progress bar; default: no bar.
    batch_callback
        Called after each batch with its paths, outputs and targets.
    chunk_size
        Yield at the first batch that completes this many images; default: everything at once.

    Yields
    ------
    Paths, outputs (n, N) float32, targets (n,) int64, and the embeddings, one (B, D) float32 array a batch.
    """
    device = torch.device(device)
    net.to(device, dtype=model_dtype)
    paths: list[str] = []
    outs: list[FloatArray] = []
    targets: list[npt.NDArray[np.int64]] = []
    embeddings: list[FloatArray] = []
    memory_format = torch.channels_last if channels_last else torch.preserve_format
    with _progress(num_samples) as advance:
        for batch_paths, inputs, batch_targets in dataloader:
            inputs = inputs.to(device, dtype=model_dtype, memory_format=memory_format)
            with torch.amp.autocast(device.type, enabled=amp, dtype=amp_dtype):
                out, embedding = infer_batch(net, inputs, return_embedding, tta, return_logits, **kwargs)
            paths.extend(batch_paths)
            outs.append(out)
            targets.append(np.asarray(batch_targets, dtype=np.int64))
            if embedding is not None:
                embeddings.append(embedding)
            if batch_callback is not None:
                batch_callback(list(batch_paths), out, targets[-1])
            advance(len(out))
            if chunk_size is not None and len(paths) >= chunk_size:
                yield paths, np.concatenate(outs), np.concatenate(targets), embeddings
                paths, outs, targets, embeddings = [], [], [], []
    if outs:
        yield paths, np.concatenate(outs), np.concatenate(targets), embeddings


def infer_dataloader(
    device: torch.device | str,
    net: torch.nn.Module,
    dataloader: Iterable[Any],
    return_embedding: bool = False,
    tta: bool = False,
    return_logits: bool = False,
    channels_last: bool = False,
    model_dtype: torch.dtype = torch.float32,
    amp: bool = False,
    amp_dtype: torch.dtype | None = None,
    num_samples: int | None = None,
    batch_callback: Callable[[list[str], FloatArray, npt.NDArray[np.int64]], None] | None = None,
    chunk_size: float | None = None,
    **kwargs: Any,
) -> DataloaderResult | Iterator[DataloaderResult]:
    """Run a network over a data loader; all results at once, or an iterator over chunks if `chunk_size` is given.

    Arguments and results as in `infer_dataloader_iter`. From an empty loader come arrays of length 0.
    """
    chunks = infer_dataloader_iter(
        device,
        net,
        dataloader,
        return_embedding,
        tta,
        return_logits,
        channels_last,
        model_dtype,
        amp,
        amp_dtype,
        num_samples,
        batch_callback,
        chunk_size,
        **kwargs,
    )
    if chunk_size is not None:
        return chunks
    network = _unwrapped(net)  # a module that does not say how many outputs it has would have to be run
    outputs = getattr(network, "num_classes", 0) or getattr(network, "embedding_size", 0)
    return next(chunks, ([], np.empty((0, outputs), np.float32), np.empty(0, np.int64), []))


class _progress:
    """A progress bar on standard error; none if the total is not known."""

    def __init__(self, total: int | None) -> None:
        self.total = total

    def __enter__(self) -> Callable[[int], None]:
        if self.total is None:
            return lambda count: None
        from rich.console import Console
        from rich.progress import Progress

        self.bar = Progress(console=Console(stderr=True), transient=True)
        task = self.bar.add_task("images", total=self.total)
        self.bar.start()
        return lambda count: self.bar.advance(task, count)

    def __exit__(self, *_: object) -> None:
        if self.total is not None:
            self.bar.stop()
