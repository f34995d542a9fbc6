"""Connecting to Ray, or starting one on this machine alone, and dividing its nodes among the actors of a run."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from birder.errors import BirderError, ConfigError

_LOOPBACK = "127.0.0.1"
_KEEP_PROCESSES = {"num_workers_soft_limit": 8, "idle_worker_killing_time_threshold_ms": 60_000}
"""By default, Ray ends a process that has waited for a second; the next task starts one anew, which takes seconds."""


@contextlib.contextmanager
def running_ray(address: str | None) -> Iterator[None]:
    """Stay connected to a cluster, or keep a Ray on this machine, until the block ends."""
    # Ray reads these when it is imported or started: send no usage statistics, log fatal errors only.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is not None and _has_token():
        # Given an address, Ray does not use the token with which `ray start` has locked the cluster, unless told to.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address is None:
        # Ray replaces a loopback address by that of the network, unless it is told that this is no cluster.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray.data

    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {"address": "local", "num_cpus": max(2, os.cpu_count() or 1), "object_store_memory": 1 << 30}
        options |= {"include_dashboard": False, "_node_ip_address": _LOOPBACK, "_system_config": _KEEP_PROCESSES}
    listening = False
    try:
        if address is not None:
            listening = _is_listening(address)
        with _silenced_stderr():
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if listening:
            raise ConfigError(
                f"{address} answers, but Ray cannot join it: {_first_line(error)}. The cluster must have the Ray of "
                f"this machine, {ray.__version__}, and its token: copy ~/.ray/auth_token from the machine where it was "
                "started, or set RAY_AUTH_TOKEN."
            ) from error
        raise ConfigError(
            f"No Ray at {address or 'this machine'}: {_first_line(error)}. "
            "Start one with: ray start --head, or leave out the address to run on this machine alone."
        ) from error
    try:
        if address is None and ray.util.get_node_ip_address() != _LOOPBACK:  # type: ignore[no-untyped-call]
            raise ConfigError(
                "Ray was imported before Birder could restrict it to this machine. "
                "Set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before, or start Ray yourself."
            )
        yield
    finally:
        ray.shutdown()


def _has_token() -> bool:
    """Whether this user has a token for Ray's clusters, where Ray itself looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").is_file()


def _is_listening(address: str) -> bool:
    """Whether the address is a host and port; `OSError` if nothing listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return False
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    return True


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Keep the lines that Ray writes to standard error when it starts away from the terminal."""
    kept = os.dup(2)
    with warnings.catch_warnings(), open(os.devnull, "w") as nothing:  # noqa: PTH123
        warnings.filterwarnings("ignore", message="lance", category=Warning)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def explain(error: BaseException) -> BirderError:
    """Find the error that a worker raised inside what Ray wraps around it."""
    link: BaseException | None = error
    while link is not None:
        cause = getattr(link, "cause", None)
        if isinstance(cause, BirderError):
            return cause
        if isinstance(link, BirderError):
            return link
        link = cause if isinstance(cause, BaseException) else link.__cause__
    # If an actor fails to start, only the text of its traceback is left.
    if said := re.findall(r"birder\.errors\.\w+: (.+)", str(error)):
        return BirderError(said[-1].strip())
    return BirderError(
        f"A worker failed: {_first_line(error)}. Committed rows are safe; run the same command again to continue."
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")


class Layout(NamedTuple):
    """How many actors embed, and the CPUs and GPUs that each of them reserves."""

    actors: int
    cpus: float
    gpus: int


def lay_out(nodes: Iterable[dict[str, Any]], device: str | None) -> Layout:
    """One actor for each GPU, or else for each node.

    An actor on a CPU may use every core, but asks for seven of eight of them, and never for all: those that are left
    are the readers', half a core each. More than half of a node's cores also keeps a second actor from it.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus = int(sum(resources.get("GPU", 0) for resources in alive))
    if gpus and device != "cpu":
        return Layout(gpus, 1, 1)
    cores = int(min(resources["CPU"] for resources in alive))
    return Layout(len(alive), max(1, cores - max(1, cores // 8)), 0)
