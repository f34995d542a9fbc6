"""What can run a network, and in which arithmetic: names that are cheap to import."""

from __future__ import annotations

from enum import StrEnum


class EngineName(StrEnum):
    """What can run a network; "auto" is OpenVINO on a CPU and PyTorch elsewhere."""

    auto = "auto"
    torch = "torch"
    openvino = "openvino"


class Features(StrEnum):
    """What is kept of an image."""

    embedding = "embedding"
    patches = "patches"


class Precision(StrEnum):
    """The arithmetic; "auto" is bf16 where the device has it and the network is precise enough in it, else fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"
