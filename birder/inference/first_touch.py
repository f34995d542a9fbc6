"""What OpenVINO's Python binding must do once, in one thread, before several threads use it."""

from __future__ import annotations

import openvino


def touch(compiled: openvino.CompiledModel) -> None:
    """Look at a request's tensors once, so that threads may do it at the same time from then on.

    The first `Tensor.data` of a process initialises static variables of the binding, and releases the interpreter's
    lock meanwhile. Another thread that takes the lock and asks for `data` then waits for these variables while it holds
    the lock: neither ever goes on (seen with OpenVINO 2026.4).
    """
    request = compiled.create_infer_request()
    _ = [tensor.data for tensor in (*request.input_tensors, *request.output_tensors)]
