"""The published package's registry over our own (birder/registry.py), for code that uses it.

A network that such code registers can be built and loaded by its name everywhere.
"""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Literal

from birder.errors import ConfigError, unknown_name
from birder.net.base import Backbone
from birder.registry import NetworkSpec, list_pretrained_models, networks, weights_spec

__all__ = ["ModelRegistry", "Task", "group_sort", "list_pretrained_models", "registry"]


class Task(StrEnum):
    """What a network is for."""

    IMAGE_CLASSIFICATION = "image_classification"
    OBJECT_DETECTION = "object_detection"
    MASKED_IMAGE_MODELING = "masked_image_modeling"
    SELF_SUPERVISED_LEARNING = "self_supervised_learning"


def group_sort(model_list: list[str]) -> list[str]:
    """Names sorted by what stands before their first underscore; within a group in the order that they had."""
    return sorted(model_list, key=lambda name: name.split("_")[0])


class ModelRegistry:
    """Networks by name, without regard to case.

    Parameters
    ----------
    table
        Gives the table that they are kept in; one of its own, which is empty, without it.
    """

    def __init__(self, table: Callable[[], dict[str, NetworkSpec]] | None = None) -> None:
        self._own: dict[str, NetworkSpec] = {}
        self._table = table
        self.name_aliases: dict[str, str] = {}

    @property
    def _specs(self) -> dict[str, NetworkSpec]:
        return self._own if self._table is None else self._table()

    def register_model(self, name: str, net_type: type[Backbone]) -> None:
        """Add a network's class under a name."""
        self._register(name, NetworkSpec(name.lower(), net_type, {}))

    def register_model_config(
        self, name: str, net_type: type[Backbone], *, config: dict[str, Any] | None = None
    ) -> None:
        """Add a network: a class with a configuration. It becomes a class of that name."""
        self._register(name, NetworkSpec(name.lower(), type(name, (net_type,), {"config": config or {}}), {}))

    def _register(self, name: str, spec: NetworkSpec) -> None:
        if spec.name in self.name_aliases:
            raise ConfigError(f"{name!r} is already an alias of {self.name_aliases[spec.name]!r}.")
        if spec.name in self._specs:
            warnings.warn(f"The network {name!r} was registered before and is replaced.", stacklevel=3)
        self._specs[spec.name] = spec

    def register_name_alias(self, alias_name: str, registered_name: str) -> None:
        """Add another name for a registered network."""
        alias, name = alias_name.lower(), registered_name.lower()
        if alias in self._specs or alias in self.name_aliases:
            raise ConfigError(f"{alias_name!r} is already the name of a network.")
        if name not in self._specs:
            raise unknown_name("network", registered_name, self._specs)
        self.name_aliases[alias] = name

    def _spec(self, name: str) -> NetworkSpec:
        key = name.lower()
        key = self.name_aliases.get(key, key)
        if key not in self._specs:
            raise unknown_name("network", name, self._specs)
        return self._specs[key]

    def _of_task(self, *tasks: Task) -> dict[str, type[Backbone]]:
        classes = {name: spec.network_class() for name, spec in self._specs.items()}
        return {name: network for task in tasks for name, network in classes.items() if network.task == task}

    @property
    def all_nets(self) -> dict[str, type[Backbone]]:
        """Classes of all networks by name."""
        return self._of_task(*Task)

    @property
    def _nets(self) -> dict[str, type[Backbone]]:
        return self._of_task(Task.IMAGE_CLASSIFICATION)

    @property
    def _detection_nets(self) -> dict[str, type[Backbone]]:
        return self._of_task(Task.OBJECT_DETECTION)

    @property
    def _mim_nets(self) -> dict[str, type[Backbone]]:
        return self._of_task(Task.MASKED_IMAGE_MODELING)

    def list_models(
        self,
        *,
        include_filter: str | None = None,
        task: Task | None = None,
        net_type: type | tuple[type, ...] | None = None,
        net_type_op: Literal["AND", "OR"] = "AND",
    ) -> list[str]:
        """Names of networks: of a shell pattern, for a task, of all (or any) of some classes."""
        nets = self.all_nets if task is None else self._of_task(Task(task))
        types = net_type if isinstance(net_type, tuple) else () if net_type is None else (net_type,)
        of_types = any if net_type_op == "OR" else all
        names = [name for name, net in nets.items() if not types or of_types(issubclass(net, t) for t in types)]
        return names if include_filter is None else fnmatch.filter(names, include_filter)

    def exists(self, name: str, task: Task | None = None, net_type: type | None = None) -> bool:
        """Whether there is such a network, for the task and of the class if they are given."""
        key = name.lower()
        return self.name_aliases.get(key, key) in self.list_models(task=task, net_type=net_type)

    def get_default_size(self, model_name: str) -> tuple[int, int]:
        """Input (height, width) in pixels of a network that is built without a size."""
        return self._spec(model_name).network_class().default_size

    def net_factory(
        self,
        name: str,
        num_classes: int,
        input_channels: int = 3,
        *,
        config: dict[str, Any] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Backbone:
        """Build a network with random weights; mind that the classes stand before the channels."""
        return self._spec(name).build(num_classes, input_channels, size, config)

    def get_model_base_name(self, model: Backbone) -> str:
        """The name of the class that a network is a configuration of, in small letters."""
        network = type(model)
        return (network.__bases__[0] if network.__name__.lower() in self._specs else network).__name__.lower()

    def get_registered_name(self, model: Backbone) -> str | None:
        """The registered name that a network was built by; None if it was built from its class."""
        return model.network

    def list_pretrained_models(self, include_filter: str | None = None, task: Task | None = None) -> list[str]:
        """Names of pretrained weights: `birder.list_pretrained_models`."""
        return list_pretrained_models(include_filter, task)

    def pretrained_exists(self, model_name: str) -> bool:
        """Whether there are such pretrained weights."""
        return model_name in list_pretrained_models()

    def get_pretrained_metadata(self, model_name: str) -> dict[str, Any]:
        """What is known of pretrained weights; `UnknownNameError` if there are none of the name."""
        spec = weights_spec(model_name)
        file = {"file_size": spec.size_mib, "sha256": spec.sha256}
        kind = "safetensors" if spec.file.endswith(".safetensors") else "pt"
        tag = spec.name.removeprefix(spec.network).lstrip("_")
        return {
            "task": Task.IMAGE_CLASSIFICATION,
            "description": spec.description,
            "resolution": spec.resolution,
            "formats": {kind: file},
            "net": {"network": spec.network, "tag": tag},
        }


registry = ModelRegistry(networks)
