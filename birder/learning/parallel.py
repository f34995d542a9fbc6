"""The processes of one training: alone, or one on each device under torchrun, which average what they learned."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from birder.inference.engine_torch import find_device


def is_first() -> bool:
    """Whether this process writes files and talks to the user: all do, but torchrun's second and further ones."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Parallel:
    """A process among those of a training.

    Attributes
    ----------
    rank
        Its number; 0 writes files and talks to the user.
    processes
        How many there are; all of them compute the same updates.
    on_machine
        How many of them run on this machine.
    device
        What it computes on.
    """

    rank: int
    processes: int
    on_machine: int
    device: torch.device

    @classmethod
    def join(cls, device: str | None) -> Parallel:
        """Join the other processes if torchrun started this one: with NCCL on GPUs, and Gloo on CPUs.

        Parameters
        ----------
        device
            As the user names it; under torchrun, "cuda" is a GPU of its own for each process.
        """
        found = find_device(device)
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return cls(0, 1, 1, found)
        if found.type == "cuda" and found.index is None:
            found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(found)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if found.type == "cuda" else "gloo")
        return cls(
            dist.get_rank(),
            dist.get_world_size(),
            int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size())),
            found,
        )

    def __enter__(self) -> Parallel:
        return self

    def __exit__(self, *_: object) -> None:
        """Part from the other processes."""
        if self.processes > 1:
            dist.destroy_process_group()

    def share_from_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process the values that the first one has, in place."""
        if self.processes > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def average(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace floating-point tensors by their mean over the processes, in place."""
        some = list(tensors)
        if self.processes == 1 or not some:
            return
        flat = torch.cat([each.detach().float().reshape(-1) for each in some])
        dist.all_reduce(flat)
        flat /= self.processes
        means = torch.split(flat, [each.numel() for each in some])
        for tensor, mean in zip(some, means, strict=True):
            tensor.detach().copy_(mean.view_as(tensor))

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over the processes."""
        if self.processes > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor)
        return tensor

    def mean(self, number: float) -> float:
        """The mean of a number over the processes."""
        return number if self.processes == 1 else float(self.add(torch.tensor(number))) / self.processes

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return flag if self.processes == 1 else bool(self.add(torch.tensor([float(flag)])).item())

    def gathered(self, found: Any) -> list[Any]:
        """What each process found, as JSON holds it, in the order of the processes."""
        if self.processes == 1:
            return [found]
        all_found: list[Any] = [None] * self.processes
        dist.all_gather_object(all_found, found)
        return all_found

    def together(self, found: Mapping[str, str]) -> dict[str, str]:
        """What all processes found."""
        return {key: value for each in self.gathered(dict(found)) for key, value in each.items()}
