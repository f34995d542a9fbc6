"""The engine that runs a network on OpenVINO: the fastest on a CPU.

A network is traced once, with its normalisation in the graph, and kept on disk by what determines it: checkpoint, input
size, and the versions of Birder and OpenVINO. A later start reads that graph, and the plan that OpenVINO compiled from
it, and needs neither torch nor the checkpoint.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino

from birder.errors import ConfigError
from birder.files import replacing_folder
from birder.inference.first_touch import touch
from birder.version import __version__
from birder.weights.hub import cache_folder, writing_cache

if TYPE_CHECKING:
    import torch
    from torch import nn

    from birder.inference.pixels import PixelNet
    from birder.weights.resolve import Weights

PRECISIONS = ("bf16", "fp32", "int8")
_CHUNK = 4
"""Images a request: small enough that all streams end together, large enough to fill the matrix units."""
GRAPH, _FACTS = "graph.xml", "graph.json"


@functools.cache
def has_bf16() -> bool:
    """Whether this processor multiplies in bf16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def graphs_folder() -> Path:
    """Where the graphs that these versions of Birder and OpenVINO have made are kept."""
    return cache_folder() / "graphs" / f"birder-{__version__}-openvino-{openvino.__version__.split('-')[0]}"


def graph_folder(weights: Weights, kind: str = "float") -> Path:
    """Where the graph of an image encoder is kept; `kind` is "float", "patches" (with patch tokens) or "int8".

    The same file gives another graph in another network or with another configuration.
    """
    config = json.dumps(weights.config, sort_keys=True, default=str)
    suffix = f"-{hashlib.sha256(config.encode()).hexdigest()[:12]}" if weights.config else ""
    return graphs_folder() / f"{weights.sha256}-{weights.network}{suffix}-{kind}"


def is_kept(folder: Path) -> bool:
    """Whether a folder contains a complete graph."""
    return (folder / _FACTS).is_file()


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts that are stored with a graph; see `keep_graph`."""
    facts: dict[str, Any] = json.loads((folder / _FACTS).read_text("utf-8"))
    return facts


def trace(module: PixelNet) -> openvino.Model:
    """The graph of a network, for batches of any size."""
    import torch

    height, width = module.net.size
    graph = converted(module, torch.zeros(2, height, width, 3, dtype=torch.uint8))
    graph.reshape([-1, height, width, 3])
    return graph


def converted(module: nn.Module, example: torch.Tensor) -> openvino.Model:
    """The graph of a module that computes the same for every input of the example's size."""
    import torch
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():
        # The tracer remarks on Python conditions; those here depend on the input's size, which is fixed.
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        # torch announces the end of tracing; OpenVINO's converter still begins with it.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # By default torch traces again, to compare: a third of the time.
        decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
        return openvino.convert_model(decoder, example_input=example)


def keep_graph(folder: Path, graph: openvino.Model, facts: dict[str, Any]) -> None:
    """Write a graph and facts about it (JSON) to disk, atomically."""
    with writing_cache(), replacing_folder(folder) as draft:
        openvino.save_model(graph, draft / GRAPH, compress_to_fp16=False)
        (draft / _FACTS).write_text(json.dumps(facts), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)


class OpenVinoEngine:
    """A stored graph on the CPU, in fp32, bf16, or quantised to int8.

    Parameters
    ----------
    folder
        From `keep_graph`; its facts name `size` (height, width), `embedding_size` and, if it gives them, the shape of
        `patches`.
    precision
        "fp32", "bf16" or, for a quantised graph, "int8".

    Raises
    ------
    ConfigError
        The processor has no bf16.
    """

    name = "openvino"

    def __init__(self, folder: Path, precision: str) -> None:
        if precision == "bf16" and not has_bf16():
            raise ConfigError("This processor has no bf16. Use --precision fp32, or leave it out.")
        facts = read_facts(folder)
        height, width = facts["size"]
        self.size = (int(height), int(width))
        self.embedding_size = int(facts["embedding_size"])
        self.precision = precision
        patches = facts.get("patches")
        self.patches: tuple[int, int, int] | None = patches and (patches[0], patches[1], patches[2])
        core = openvino.Core()
        core.set_property({"CACHE_DIR": str(folder / "compiled")})
        # What a quantised graph leaves in floating point runs in the processor's best arithmetic.
        floating = "bf16" if precision == "bf16" or (precision == "int8" and has_bf16()) else "f32"
        # Streams that work apart: where decoding takes a core for a moment, only one of them waits for it.
        hints = {"INFERENCE_PRECISION_HINT": floating, "PERFORMANCE_HINT": "THROUGHPUT"}
        compiled = core.compile_model(folder / GRAPH, "CPU", hints)
        touch(compiled)
        self._requests = openvino.AsyncInferQueue(compiled)
        self._requests.set_callback(self._store)

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings (B, D) float32 of RGB images (B, H, W, 3) uint8."""
        embeddings = np.empty((len(images), self.embedding_size), np.float32)
        self._compute(images, [embeddings])
        return embeddings

    def embed_with_patches(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        """Embeddings, and patch tokens (B, rows, columns, D) float16, of RGB images (B, H, W, 3) uint8."""
        embeddings = np.empty((len(images), self.embedding_size), np.float32)
        patches = np.empty((len(images), *(self.patches or ())), np.float16)
        self._compute(images, [embeddings, patches])
        return embeddings, patches

    def _compute(self, images: npt.NDArray[np.uint8], outputs: list[npt.NDArray[Any]]) -> None:
        """Fill arrays (B, ...) with as many of the graph's outputs."""
        images = np.ascontiguousarray(images)
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._requests.start_async({0: images[part]}, [output[part] for output in outputs], share_inputs=True)
        self._requests.wait_all()

    @staticmethod
    def _store(request: openvino.InferRequest, into: list[npt.NDArray[Any]]) -> None:
        for i, array in enumerate(into):
            array[:] = request.get_output_tensor(i).data
