"""The published package's ways to load and save models, for code that imports them.

They look for files in the folder `birder.conf.settings.MODELS_DIR` first, as there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from birder.common.lib import get_network_name
from birder.conf import settings
from birder.errors import ConfigError
from birder.registry import weights_spec
from birder.weights import load
from birder.weights.checkpoint import RgbStats, Signature, save_model
from birder.weights.exported import load_pt2
from birder.weights.hub import fetch
from birder.weights.load import ModelInfo, load_model_with_cfg

__all__ = [
    "ModelInfo",
    "download_model_by_weights",
    "list_checkpoints",
    "load_model",
    "load_model_with_cfg",
    "load_pretrained_model",
    "load_pretrained_model_and_transform",
    "model_path",
    "read_class_file",
    "save_st",
]


def model_path(
    network_name: str,
    *,
    epoch: int | str | None = None,
    quantized: bool = False,
    pts: bool = False,
    lite: bool = False,
    pt2: bool = False,
    trt: bool = False,
    st: bool = False,
    onnx: bool = False,
    states: bool = False,
) -> Path:
    """Where a model's file lies: in `settings.MODELS_DIR`, with the ending of its kind."""
    name = network_name if epoch is None else f"{network_name}_{epoch}"
    kinds = {
        "_states.pt": states, ".ptl": lite, ".trt.pt2": trt, ".pt2": pt2, ".safetensors": st, ".onnx": onnx,
        ".pts": pts, ".pt": True,
    }  # fmt: skip
    ending = next(ending for ending, chosen in kinds.items() if chosen)
    return settings.MODELS_DIR.joinpath(f"{name}{'_quantized' if quantized else ''}{ending}")


def list_checkpoints(network_name: str, *, states: bool = False) -> list[Path]:
    """The files of a training's epochs in `settings.MODELS_DIR`, oldest first."""
    ending = "_states.pt" if states else ".pt"
    of_epoch = re.compile(rf"{re.escape(network_name)}_[1-9]\d*{re.escape(ending)}")
    paths = settings.MODELS_DIR.glob(f"{network_name}_*[0-9]{ending}")
    return sorted((path for path in paths if of_epoch.fullmatch(path.name)), key=lambda path: path.stat().st_mtime)


def load_model(
    device: torch.device | str,
    network: str,
    *,
    path: str | Path | None = None,
    config: dict[str, Any] | None = None,
    tag: str | None = None,
    epoch: int | None = None,
    new_size: tuple[int, int] | None = None,
    quantized: bool = False,
    inference: bool,
    reparameterized: bool = False,
    pts: bool = False,
    pt2: bool = False,
    st: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[Any, ModelInfo]:
    """`birder.load_model`, which finds the file by network, tag and epoch where no path is given.

    With `pt2`, what was exported is loaded (`birder.weights.exported.load_pt2`): a program, from people you trust.

    Raises
    ------
    ConfigError
        A kind of file or network that Birder does not have: quantised, TorchScript, reparameterised; or another size or
        configuration of an exported network.
    WeightsError
        As `birder.load_model`.
    """
    wanted = {"quantized": quantized, "reparameterized": reparameterized, "pts": pts}
    for name, value in wanted.items():
        if value:
            raise ConfigError(f"Birder loads .pt, .safetensors and .pt2 files as they are: leave out {name}=True.")
    if path is None:
        path = model_path(get_network_name(network, tag), epoch=epoch, st=st, pt2=pt2)
    if pt2:
        if new_size is not None or config:
            raise ConfigError("An exported network has one size and configuration: leave out new_size and config.")
        return load_pt2(path, device=device, dtype=dtype)
    return load.load_model(
        network, path, config=config, inference=inference, device=device, dtype=dtype, new_size=new_size
    )


def load_pretrained_model(weights: str, *, dst: str | Path | None = None, **options: Any) -> Any:
    """`birder.load_pretrained_model`, which takes a file in `settings.MODELS_DIR` rather than fetch it again."""
    return load.load_pretrained_model(weights, dst=_there_already(weights, dst, options), **options)


def load_pretrained_model_and_transform(weights: str, *, dst: str | Path | None = None, **options: Any) -> Any:
    """`birder.load_pretrained_model_and_transform`, in the same way."""
    return load.load_pretrained_model_and_transform(weights, dst=_there_already(weights, dst, options), **options)


def _there_already(weights: str, dst: str | Path | None, options: dict[str, Any]) -> str | Path | None:
    path = model_path(weights, st=options.get("file_format") == "safetensors")
    return path if dst is None and path.exists() else dst


def download_model_by_weights(
    weights: str, *, dst: str | Path | None = None, file_format: str = "pt", progress_bar: bool = True
) -> None:
    """Fetch pretrained weights to `dst`, or into `settings.MODELS_DIR`."""
    path = model_path(weights, st=file_format == "safetensors") if dst is None else dst
    fetch(weights_spec(weights), dst=path, progress_bar=progress_bar)


def save_st(
    net: torch.nn.Module,
    dst: str | Path,
    task: str,
    class_to_idx: dict[str, int],
    signature: Signature,
    rgb_stats: RgbStats,
    *,
    external_config: dict[str, Any] | None = None,
) -> None:
    """`birder.save_model`; `dst` ends in .safetensors."""
    save_model(
        net,
        dst,
        signature=signature,
        rgb_stats=rgb_stats,
        class_to_idx=class_to_idx,
        config=external_config,
        task=task,
    )


def read_class_file(path: str | Path) -> dict[str, int]:
    """Class name -> index, of a file with one name a line."""
    return {name: index for index, name in enumerate(Path(path).read_text("utf-8").splitlines())}
