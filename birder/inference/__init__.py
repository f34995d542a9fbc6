"""Running networks: single images, batches, data loaders, and engines that embed folders."""

import sys

# Where its telemetry package is found, OpenVINO reports its use over the network, from forked processes. Nobody asked
# the user; without the package OpenVINO uses a stub of its own.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
