"""The two files of a model in OpenCLIP's layout: where they are, and the configuration. torch is not needed.

The layout is that of `open_clip_torch`: `open_clip_config.json` beside `open_clip_model.safetensors` or
`open_clip_pytorch_model.bin`, in a folder or in a hub repository.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from birder.errors import HubError, WeightsError
from birder.registry import HUB_PREFIX
from birder.weights.hub import cached_repository_file, fetch_repository_file

CONFIG_FILE = "open_clip_config.json"
SAFETENSORS_FILE = "open_clip_model.safetensors"
PICKLE_FILE = "open_clip_pytorch_model.bin"
OPENAI_RGB: dict[str, Any] = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}
"""The statistics that CLIP models are normalised with where their configuration has none."""

Config = dict[str, Any]


class OpenClipFiles(NamedTuple):
    """The files of a model in OpenCLIP's layout: its configuration and its tensors."""

    config: Path
    weights: Path


def is_repository(word: str) -> bool:
    """Whether a word has the form of a hub repository, OWNER/NAME."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", word) is not None and not word.startswith(".")


def fetch_files(source: str) -> OpenClipFiles:
    """The files of a folder, or of a hub repository, which are fetched if they are not on this machine.

    Raises
    ------
    HubError
        The repository, or a file of it, cannot be fetched.
    WeightsError
        The folder is not in OpenCLIP's layout, or the word is neither a folder nor a repository.
    """
    folder, name = Path(source), source.removeprefix(HUB_PREFIX)
    if folder.is_dir():
        weights = next((folder / name for name in (SAFETENSORS_FILE, PICKLE_FILE) if (folder / name).is_file()), None)
        if weights is None or not (folder / CONFIG_FILE).is_file():
            lacks = CONFIG_FILE if weights is not None else f"{SAFETENSORS_FILE} or {PICKLE_FILE}"
            raise WeightsError(
                f"{folder} is not in OpenCLIP's layout: it has no {lacks}. Add it from the model's page."
            )
        return OpenClipFiles(folder / CONFIG_FILE, weights)
    config = fetch_config(source)
    try:
        return OpenClipFiles(config, fetch_repository_file(name, SAFETENSORS_FILE))
    except HubError:  # older repositories have the pickle only; if that fails too, its error is the one to show
        return OpenClipFiles(config, fetch_repository_file(name, PICKLE_FILE))


def fetch_config(source: str) -> Path:
    """The configuration of a folder or of a hub repository; raises as `fetch_files`."""
    if Path(source).is_dir():
        return Path(source) / CONFIG_FILE
    return fetch_repository_file(checked_repository(source.removeprefix(HUB_PREFIX)), CONFIG_FILE)


def are_cached(source: str) -> bool:
    """Whether the files are on this machine. Nothing is fetched."""
    folder, name = Path(source), source.removeprefix(HUB_PREFIX)
    if folder.is_dir():
        return (folder / CONFIG_FILE).is_file() and any(
            (folder / name).is_file() for name in (SAFETENSORS_FILE, PICKLE_FILE)
        )
    return cached_repository_file(name, CONFIG_FILE) is not None and any(
        cached_repository_file(name, file) is not None for file in (SAFETENSORS_FILE, PICKLE_FILE)
    )


def checked_repository(word: str) -> str:
    """The word, if it has the form of a hub repository; `WeightsError` otherwise."""
    if not is_repository(word):
        raise WeightsError(
            f"There is no folder or file {word}, and it is not a hub repository, which has the form OWNER/NAME: "
            "imageomics/bioclip."
        )
    return word


def read_config(path: Path) -> Config:
    """`open_clip_config.json`, checked; `WeightsError` if it is not OpenCLIP's configuration."""
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config["model_cfg"]["vision_cfg"], dict) or not isinstance(
            config["model_cfg"]["embed_dim"], int
        ):
            raise TypeError("vision_cfg is not a table")
        for key in ("mean", "std"):
            numbers = (config.get("preprocess_cfg") or {}).get(key) or OPENAI_RGB[key]
            if len(numbers) != 3 or not all(type(each) in (int, float) for each in numbers):
                raise TypeError(f"preprocess_cfg.{key} is not a list of three numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path} is not OpenCLIP's configuration: it needs model_cfg with embed_dim and vision_cfg ({error!r})."
        ) from error
    return dict(config)
