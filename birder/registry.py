"""Networks, pretrained weights and label sets by name.

The table itself is data, in `registry.toml` beside this file; users add their own weights with a TOML file of the same
form and `register_weights`. Reading it does not import torch: a network's class is imported when the network is built.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from birder.errors import ConfigError, WeightsError, unknown_name

if TYPE_CHECKING:
    from birder.net.base import Backbone

TASK = "image_classification"
DETECTION_TASK = "object_detection"
"""The task of a detector's checkpoint, of which Birder loads the backbone."""
HEAD_ENDING = ".head.safetensors"
"""How the names of detached heads end: classifiers without their network (`birder.weights.head`)."""
HUB_PREFIX = "hf-hub:"
"""The prefix of hub repositories in OpenCLIP and pybioclip."""
DEFAULT_WEIGHTS = "efficientnet_lite0_in1k"
"""The default model for embedding: its weights are installed with Birder, so it works offline."""
DEFAULT_CLIP = "vit_l14_pn_bioclip-v2"
"""The default model for naming by texts: BioCLIP 2, once it is on this machine."""


@dataclass(frozen=True)
class NetworkSpec:
    """A network that can be built.

    Attributes
    ----------
    source
        Its class: itself, or "module:Class".
    config
        The configuration that distinguishes it from others of its class.
    bf16
        Whether its embeddings in bf16 stay within a cosine of 0.999 of those in fp32.
    transformer
        Whether it is a transformer, which is quantised in another way than a convolutional network.
    published_as
        Of a network that the published birder package does not have: the name of its counterpart there, which has the
        same parameters in another arithmetic.
    """

    name: str
    source: str | type[Backbone]
    config: dict[str, Any]
    bf16: bool = True
    transformer: bool = False
    published_as: str | None = None

    def build(
        self, num_classes: int, input_channels: int, size: tuple[int, int] | None, config: dict[str, Any] | None
    ) -> Backbone:
        """The network with random weights, its configuration overridden by `config`."""
        net = self.network_class()(input_channels, num_classes, config=self.config | (config or {}), size=size)
        net.network = self.name
        return net

    def network_class(self) -> type[Backbone]:
        """The class, which is imported now."""
        if not isinstance(self.source, str):
            return self.source
        module, _, name = self.source.partition(":")
        network_class: type[Backbone] = getattr(importlib.import_module(module), name)
        return network_class


@dataclass(frozen=True)
class WeightsSpec:
    """Pretrained weights that can be loaded: what they are, and where their file comes from.

    Attributes
    ----------
    repository, module, path
        Exactly one is set: a hub repository with `file`, an installed Python module with `file` (from the distribution
        `package`), or a file on this machine.
    openclip
        The hub repository, or the folder, of the whole CLIP model that they are the image encoder of, in OpenCLIP's
        layout.
    text_encoder_note
        Of the image encoder of a CLIP model that is not published in OpenCLIP's layout: where its text encoder is.
    label_set
        The label set whose text embeddings were made with this CLIP model.
    classes, state_names
        Of a file that is not in the Birder format: the file of class names in birder/data, and the function
        ("module:function") that renames its parameters.
    """

    name: str
    network: str
    file: str = ""
    description: str = ""
    repository: str | None = None
    package: str | None = None
    module: str | None = None
    path: str | None = None
    openclip: str | None = None
    text_encoder_note: str | None = None
    label_set: str | None = None
    sha256: str | None = None
    size_mib: float | None = None
    resolution: tuple[int, int] | None = None
    parameters: int | None = None
    license: str = "unknown"
    citation: str = ""
    classes: str | None = None
    state_names: str | None = None
    rgb_mean: tuple[float, float, float] | None = None
    rgb_std: tuple[float, float, float] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def is_embedded(self) -> bool:
        """Whether the file comes with an installed package, so that no hub is needed."""
        return self.module is not None


@dataclass(frozen=True)
class LabelSetSpec:
    """Published text embeddings of many taxa: a data set on the hub, and the names of its two files in it."""

    name: str
    repository: str
    embeddings: str
    names: str


@dataclass(frozen=True)
class DetectorSpec:
    """A detector that is installed with Birder: its file in birder/data, with its sha256, license and source."""

    name: str
    file: str
    sha256: str
    description: str
    license: str
    source: str


class _Tables(NamedTuple):
    networks: dict[str, NetworkSpec]
    weights: dict[str, WeightsSpec]
    label_sets: dict[str, LabelSetSpec]
    detectors: dict[str, DetectorSpec]


@functools.cache
def _tables() -> _Tables:
    table = tomllib.loads(Path(__file__).with_name("registry.toml").read_text("utf-8"))
    networks = {name: NetworkSpec(name, entry.pop("class"), **entry) for name, entry in table["networks"].items()}
    label_sets = {name: LabelSetSpec(name, **entry) for name, entry in table["label_sets"].items()}
    detectors = {name: DetectorSpec(name, **entry) for name, entry in table["detectors"].items()}
    tables = _Tables(networks, {}, label_sets, detectors)
    tables.weights.update({name: _weights_spec(name, entry, tables) for name, entry in table["weights"].items()})
    if extra := os.environ.get("BIRDER_WEIGHTS"):
        tables.weights.update(_read_weights(Path(extra), tables))
    return tables


def _weights_spec(name: str, entry: dict[str, Any], tables: _Tables) -> WeightsSpec:
    known = {f.name for f in fields(WeightsSpec)} - {"name"}
    for key in entry:
        if key not in known:
            raise unknown_name(f"key in weights {name!r}", key, known)
    if "network" not in entry:
        raise ConfigError(
            f'Weights {name!r} do not name their network. Add: network = "vit_b16_pn" (or another known one).'
        )
    if entry["network"] not in tables.networks:
        raise unknown_name("network", entry["network"], tables.networks)
    if entry.get("label_set", next(iter(tables.label_sets))) not in tables.label_sets:
        raise unknown_name("label set", entry["label_set"], tables.label_sets)
    if sum(key in entry for key in ("repository", "module", "path")) != 1:
        raise ConfigError(f"Weights {name!r} need exactly one source: repository (with file) or path.")
    if "path" not in entry and not entry.get("file"):
        raise ConfigError(f'Weights {name!r} need the name of their file: file = "{name}.pt".')
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return WeightsSpec(name=name, **values)


def networks() -> dict[str, NetworkSpec]:
    """The networks by name: the table itself, so that what is added to it can be built."""
    return _tables().networks


def list_networks() -> list[str]:
    """Names of the networks that can be built."""
    return sorted(_tables().networks)


def network_spec(name: str) -> NetworkSpec:
    """The registry's entry for a network; `UnknownNameError` with the closest names if there is none."""
    networks = _tables().networks
    if name not in networks:
        raise unknown_name("network", name, networks)
    return networks[name]


def label_set_spec(name: str) -> LabelSetSpec:
    """The registry's entry for a label set; `UnknownNameError` with the closest names if there is none."""
    label_sets = _tables().label_sets
    if name not in label_sets:
        raise unknown_name("label set", name, label_sets)
    return label_sets[name]


def detectors() -> dict[str, DetectorSpec]:
    """The detectors that are installed with Birder, by name; the first is the default."""
    return _tables().detectors


def registered_name(word: str) -> str | None:
    """The name of the registered weights that a user's word for a model stands for; None if it stands for none.

    A word is that name, the hub repository of the weights' file, or that of the whole CLIP model which they belong to;
    a repository with or without the prefix `hf-hub:`: `hf-hub:imageomics/bioclip-2` is `vit_l14_pn_bioclip-v2`.
    """
    weights = _tables().weights
    if word in weights:
        return word
    repository = word.removeprefix(HUB_PREFIX)
    return next((name for name, spec in weights.items() if repository in (spec.repository, spec.openclip)), None)


def weights_spec(word: str) -> WeightsSpec:
    """The registry's entry for pretrained weights; `UnknownNameError` with the closest names if there is none.

    `word` is anything that `registered_name` knows.
    """
    weights = _tables().weights
    name = registered_name(word)
    if name is None:
        raise unknown_name("pretrained weights", word, weights)
    return weights[name]


def list_pretrained_models(include_filter: str | None = None, task: str | None = None) -> list[str]:
    """Names of the pretrained weights, sorted.

    Parameters
    ----------
    include_filter
        A shell pattern (`*bioclip*`); all names without one.
    task
        Only weights for this task; Birder's are all "image_classification".
    """
    if task is not None and str(task) != TASK:
        return []
    names = sorted(_tables().weights)
    return names if include_filter is None else fnmatch.filter(names, include_filter)


def register_weights(source: str | Path) -> list[str]:
    """Add the weights that a TOML file describes; returns their names.

    The file has one table `[weights.NAME]` for each, with at least `network` and either `path` (relative to the TOML
    file) or `repository` and `file`; optionally `sha256, size_mib, license, citation, description, config` and
    `openclip`, the whole CLIP model (a hub repository, or a folder relative to the TOML file). The same file is read at
    start if the environment variable `BIRDER_WEIGHTS` names it. A known name is replaced.

    Raises
    ------
    WeightsError
        The file is missing or is not TOML.
    UnknownNameError, ConfigError
        It names an unknown network or key, or no source for the weights.
    """
    tables = _tables()
    added = _read_weights(Path(source), tables)
    tables.weights.update(added)
    return sorted(added)


def _read_weights(source: Path, tables: _Tables) -> dict[str, WeightsSpec]:
    try:
        table = tomllib.loads(source.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"Cannot read the weights table {source}: {error}") from error
    if not isinstance(table.get("weights"), dict):
        raise ConfigError(f"{source} has no table [weights.NAME]; docs/weights.md describes its form.")
    added = {}
    for name, entry in table["weights"].items():
        for key in ("path", "openclip"):  # `openclip` may be a hub repository
            if key in entry and (key == "path" or (source.parent / entry[key]).is_dir()):
                entry = {**entry, key: str((source.parent / entry[key]).resolve())}
        added[name] = _weights_spec(name, entry, tables)
    return added


def create_network(
    name: str,
    num_classes: int = 0,
    *,
    input_channels: int = 3,
    size: tuple[int, int] | None = None,
    config: dict[str, Any] | None = None,
) -> Backbone:
    """Build a registered network with random weights.

    Parameters
    ----------
    name
        A registered network, e.g. "vit_b16_pn".
    num_classes
        Outputs of the classifier; 0 builds none (`classify` then returns the embedding).
    input_channels
        Channels of the input images.
    size
        Input (height, width) in pixels; default: the network's own.
    config
        Overrides of the registered configuration; an unknown key is an error that names the known ones.
    """
    return network_spec(name).build(num_classes, input_channels, size, config)
