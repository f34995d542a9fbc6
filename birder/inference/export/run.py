"""`birder export-model`: a network becomes a file that runs without Birder, is checked, and gets its model card.

A detector that is an ONNX file already goes through `birder.inference.export.detector`; every network of Birder's own
through here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from birder.errors import ConfigError, ImageError, file_exists, unknown_name
from birder.files import write_errors
from birder.images.transform import ClassificationTransform, classification_transform
from birder.inference.export import check, onnx_file, openvino_file, pt2_file, words
from birder.inference.export import detector as detector_file
from birder.inference.export.graph import (
    IMAGES,
    OUTPUTS,
    TOKENS,
    Graph,
    ImageGraph,
    Output,
    Tensors,
    TextGraph,
    with_half_weights,
)
from birder.inference.export.tokenizer import write_tokenizer
from birder.inference.quantize import draw_images
from birder.net.base import Backbone
from birder.net.tokenizer import ClipTokenizer
from birder.registry import DETECTION_TASK, TASK, WeightsSpec, detectors, network_spec, registered_name, weights_spec
from birder.version import __version__
from birder.weights.checkpoint import make_signature, read_checkpoint
from birder.weights.detector import CHECKPOINTS, DetectorFile, resolve_detector
from birder.weights.load import LoadedModel
from birder.weights.model_card import CardFacts, model_card
from birder.weights.resolve import Kind, Model, resolve

ENDINGS: dict[str, ModuleType] = {".onnx": onnx_file, ".xml": openvino_file, ".pt2": pt2_file}
"""Ending of a file -> the module that writes and runs its format."""
LABELS, CARD, TOKENIZER = "labels.txt", "README.md", "tokenizer.json"
Precision = Literal["fp32", "fp16", "int8"]
Encoder = Literal["image", "text"]
_SAMPLE = 128
"""Images that quantisation is calibrated and judged on, at most."""
_FEWEST = 8


@dataclass(frozen=True)
class ExportedModel:
    """A model that was exported.

    Attributes
    ----------
    path
        The file.
    files
        All files that were written, that one first.
    outputs
        Names of its outputs.
    classes
        C names; empty where the model has none.
    precision
        "fp32", "fp16" or "int8".
    agreement
        How near its outputs are to the network's.
    facts
        The metadata in the file.
    """

    path: Path
    files: tuple[Path, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    precision: str
    agreement: check.Agreement
    facts: Mapping[str, str]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons not to use it, in words."""
        cosines = self.agreement.mean_cosines.values()
        if self.precision == "int8" and min(cosines) < check.GOOD_COSINE:
            return (f"the mean cosine is below {check.GOOD_COSINE}: answers will change. Prefer fp16 for this model.",)
        return ()


@dataclass(frozen=True)
class _Source:
    """A network to export, and what is known of it."""

    name: str
    graph: Graph
    classes: tuple[str, ...]
    transform: ClassificationTransform | None
    spec: WeightsSpec | None
    adaptation: Mapping[str, Any]
    facts: dict[str, str]


def export_model(
    model: str | Path | Model,
    dest: str | Path,
    *,
    output: Output | None = None,
    encoder: Encoder = "image",
    size: int | None = None,
    precision: Precision = "fp32",
    with_transform: bool = False,
    calibrate: Sequence[str] = (),
    force: bool = False,
    on_unreadable: Callable[[str, ImageError], None] = lambda path, error: None,
) -> ExportedModel:
    """Write a network as a file that runs without Birder, with its labels and its model card beside it.

    The file is run in another runtime and compared with the network before it appears; README.md says how near it was.

    Parameters
    ----------
    model
        A registered name, a checkpoint file, a detached head, a folder or hub repository in OpenCLIP's layout; or a
        detector by its name, as an ONNX file or a checkpoint: its overlapping boxes are then suppressed in the graph.
    dest
        Ends in .onnx (for onnxruntime), .xml (OpenVINO; its weights are NAME.bin) or .pt2 (PyTorch).
    output
        "embedding" (B, D), "logits" (B, C), "both", or "detection", the maps that a detector stands on (default:
        "logits" where the classifier has class names, else "embedding"). The logits of a CLIP model's image encoder
        are called "features": they are compared with those of texts.
    encoder
        Of a CLIP model: "image", or "text", which writes the tokenizer beside it.
    size
        Input (height and width) in pixels (default: the network's own).
    precision
        "fp32"; "fp16", weights stored in half precision and computed in fp32; "int8", for .onnx and .xml.
    with_transform
        Resize and normalise in the graph: it takes RGB images (B, H, W, 3) uint8 of any size.
    calibrate
        Images to quantise on, files, at least 8; only for int8. A quarter of them judges the result.
    force
        Replace files that exist.
    on_unreadable
        Called with each image of `calibrate` that cannot be read.

    Raises
    ------
    ConfigError
        The options do not go together, or the ending is unknown.
    FileExistsError
        One of the files exists, and `force` is false.
    MissingExtraError
        The extra "export" (.onnx) or "quantize" (int8) is not installed.
    WeightsError
        The file did not agree with the network, so it was not kept; or the model cannot be loaded.
    """
    dest = Path(dest)
    if not isinstance(model, Model) and _is_detector(model):
        return _export_detector(resolve_detector(model), dest, output, size, precision, with_transform, force)
    if dest.suffix not in ENDINGS:
        raise ConfigError(f"{dest} has no known extension: use {', '.join(ENDINGS)}.")
    _check_options(output, encoder, precision, with_transform, calibrate, dest.suffix)
    found = resolve(model)
    _check_free(dest, found, output, encoder, force)
    source = _text_source(found) if encoder == "text" else _image_source(found, output, size)
    calibration, judges = _calibration(source, calibrate, on_unreadable) if precision == "int8" else (None, None)
    facts = source.facts | {
        "precision": precision,
        "outputs": json.dumps(source.graph.outputs),
        "transform": "in the graph" if with_transform else "outside",
    }
    format_of = ENDINGS[dest.suffix]
    with drafts(dest) as folder:
        draft = folder / dest.name
        graph = source.graph
        if precision == "fp16":
            graph = replace(graph, module=with_half_weights(graph.module))
        format_of.write(
            graph,
            draft,
            transform=source.transform if with_transform else None,
            calibration=calibration,
            facts=facts,
        )
        run = format_of.runner(draft, graph.outputs)
        if encoder == "text":
            agreement = _compare_texts(source, run, format_of.runtime())
        else:
            agreement = _compare_images(source, run, format_of.runtime(), with_transform, judges)
        check.require(agreement, dest.name, precision, with_transform=with_transform)
        beside = {CARD: _card(source, dest, facts, agreement, precision)}
        if source.classes:
            beside[LABELS] = "".join(f"{name}\n" for name in one_line_each(source.classes))
        for name, text in beside.items():
            (folder / name).write_text(text, "utf-8", newline="\n")
        if encoder == "text":
            write_tokenizer(folder / TOKENIZER, graph.example.shape[1], check.TEXTS)
    files = (dest, *(dest.with_name(name) for name in _beside(dest, bool(source.classes), encoder)))
    return ExportedModel(dest, files, source.graph.outputs, source.classes, precision, agreement, facts)


def _is_detector(model: str | Path) -> bool:
    path = Path(model)
    if str(model) in detectors() or path.suffix == ".onnx":
        return True
    return path.suffix in CHECKPOINTS and path.is_file() and read_checkpoint(path).task == DETECTION_TASK


def _export_detector(
    file: DetectorFile,
    dest: Path,
    output: str | None,
    size: int | None,
    precision: str,
    with_transform: bool,
    force: bool,
) -> ExportedModel:
    if dest.suffix not in (".onnx", ".xml"):
        raise ConfigError(f"A detector is exported as .onnx or .xml, not as {dest.name}.")
    if output not in (None, "detection") or size is not None or precision != "fp32" or with_transform:
        raise ConfigError(
            "A detector is exported as it is, with --output detection: leave out size, precision "
            "and with_transform. How its images are prepared stands in the model card."
        )
    names = [dest.name, *_beside(dest, True, "image")]
    for name in names:
        if not force and dest.with_name(name).exists():
            raise file_exists(dest.with_name(name))
    spec = detectors().get(file.name)
    facts = {"birder_version": __version__, "name": file.name, "weights_sha256": file.sha256, "precision": precision}
    if spec is not None:
        facts |= {"license": spec.license, "source": spec.source}
    with drafts(dest) as folder:
        form, inside, agreement = detector_file.export_detector(file, folder / dest.name, facts)
        (folder / LABELS).write_text("".join(f"{name}\n" for name in one_line_each(form.names)), "utf-8", newline="\n")
        card = words.detector_card(file, dest, form, inside, agreement, None if spec is None else spec.description)
        (folder / CARD).write_text(card, "utf-8", newline="\n")
    files = tuple(dest.with_name(name) for name in names)
    return ExportedModel(dest, files, detector_file.OUTPUTS, form.names, precision, agreement, inside)


@contextmanager
def drafts(dest: Path) -> Iterator[Path]:
    """Yield a folder beside `dest`; what is in it at the end is moved there, and nothing after an error."""
    with write_errors(dest, dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".birder-", dir=dest.parent))
    try:
        with write_errors(dest, folder):
            yield folder
            for file in sorted(folder.iterdir()):
                file.replace(dest.with_name(file.name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def one_line_each(classes: Sequence[str]) -> list[str]:
    """Names that may stand one a line: a line's end within one becomes a space."""
    return [" ".join(name.splitlines()) if len(name.splitlines()) > 1 else name for name in classes]


def _check_options(
    output: str | None, encoder: str, precision: str, with_transform: bool, calibrate: Sequence[str], ending: str
) -> None:
    for kind, value, known in (
        ("output", output or "logits", OUTPUTS),
        ("encoder", encoder, ("image", "text")),
        ("precision", precision, ("fp32", "fp16", "int8")),
    ):
        if value not in known:
            raise ConfigError(str(unknown_name(kind, value, known)))
    if encoder == "text" and (output is not None or with_transform or precision == "int8"):
        raise ConfigError(
            "A text encoder has one output and no images: leave out output and with_transform, and use fp32 or fp16."
        )
    if precision == "int8" and not calibrate:
        raise ConfigError("int8 is calibrated on images like those that will be embedded: name some with calibrate.")
    if precision == "int8" and ending == ".pt2":
        raise ConfigError("int8 is for .onnx and .xml files.")
    if calibrate and precision != "int8":
        raise ConfigError("calibrate is for int8 alone: leave it out.")


def _beside(dest: Path, has_classes: bool, encoder: str) -> list[str]:
    """Names of the files beside the exported one."""
    names = [f"{dest.stem}.bin"] if dest.suffix == ".xml" else []
    names += [CARD, *([LABELS] if has_classes else []), *([TOKENIZER] if encoder == "text" else [])]
    return names


def _check_free(dest: Path, model: Model, output: str | None, encoder: str, force: bool) -> None:
    """Refuse to replace a file before any work is done for it."""
    names = [dest.name, *_beside(dest, model.has_classes is not False and encoder == "image", encoder)]
    for name in names:
        if not force and dest.with_name(name).exists():
            raise file_exists(dest.with_name(name))


def _image_source(found: Model, output: Output | None, size: int | None) -> _Source:
    loaded = found.load_image_encoder()
    net: Backbone = loaded.net
    if size is not None:
        net.adjust_size((size, size))
    named = loaded.info.class_to_idx
    count = net.num_classes
    by_index = {index: name for name, index in named.items()}
    classes = tuple(by_index.get(index, str(index)) for index in range(count)) if named else ()
    if output is None:
        output = "logits" if classes else "embedding"
    if output in ("logits", "both") and not count:
        raise ConfigError(f"{loaded.name} has no classifier: use the embedding, --output embedding.")
    if output not in ("logits", "both"):
        classes = ()
    module = ImageGraph(net, output, features=not named).eval()
    graph = Graph(
        module,
        IMAGES,
        module.outputs,
        torch.zeros(2, net.input_channels, *net.size),
        network_spec(loaded.network).transformer,
    )
    spec, adaptation = _origin(found)
    return _Source(
        loaded.name,
        graph,
        classes,
        classification_transform(net.size, loaded.info.rgb_stats),
        spec,
        adaptation,
        _facts(found, loaded, net, spec, adaptation, classes),
    )


def _text_source(found: Model) -> _Source:
    clip = found.load_clip()
    module = TextGraph(clip.net.text).eval()
    example = torch.zeros(2, clip.context_length, dtype=torch.int64)
    spec = _spec_of(found)
    facts = {
        "birder_version": __version__,
        "name": clip.name,
        "network": "CLIP's text encoder",
        "context_length": str(clip.context_length),
        "logit_scale": repr(float(clip.logit_scale)),
        "weights_sha256": clip.sha256,
        "torch_version": torch.__version__,
    }
    graph = Graph(module, TOKENS, module.outputs, example, True)
    return _Source(clip.name, graph, (), None, spec, {}, facts | _rights(spec))


def _spec_of(found: Model) -> WeightsSpec | None:
    name = registered_name(found.source) if found.spec is None else None
    return found.spec if name is None else weights_spec(name)


def _origin(found: Model) -> tuple[WeightsSpec | None, Mapping[str, Any]]:
    """The registry's entry for a model or its backbone, and what learning recorded of its classifier."""
    if found.kind == Kind.head:
        head = found.load_head()
        return _spec_of(found.encoder()), head.adaptation
    if found.kind == Kind.file:
        adaptation = read_checkpoint(found.source).adaptation or {}
        name = registered_name(str((adaptation.get("backbone") or {}).get("name")))
        return None if name is None else weights_spec(name), adaptation
    return _spec_of(found), {}


def _rights(spec: WeightsSpec | None) -> dict[str, str]:
    if spec is None:
        return {}
    return {"license": spec.license} | ({"citation": spec.citation} if spec.citation else {})


def _facts(
    found: Model,
    loaded: LoadedModel,
    net: Backbone,
    spec: WeightsSpec | None,
    adaptation: Mapping[str, Any],
    classes: Sequence[str],
) -> dict[str, str]:
    """The file's metadata; `task`, `class_to_idx`, `signature` and `rgb_stats` as the published package has them."""
    stats = {key: [float(each) for each in loaded.info.rgb_stats[key]] for key in ("mean", "std")}
    outputs = net.num_classes
    backbone = adaptation.get("backbone") or {}
    facts = {
        "birder_version": __version__,
        "task": TASK,
        "class_to_idx": json.dumps({name: index for index, name in enumerate(classes)}),
        "signature": json.dumps(make_signature((net.size[0], net.size[1]), outputs, net.input_channels)),
        "rgb_stats": json.dumps(stats),
        "name": loaded.name,
        "network": loaded.network,
        "weights_sha256": loaded.sha256,
        "torch_version": torch.__version__,
    }
    if backbone.get("name"):
        facts["backbone"] = str(backbone["name"])
    if backbone.get("sha256"):
        facts["backbone_sha256"] = str(backbone["sha256"])
    return facts | _rights(spec)


def _calibration(
    source: _Source, paths: Sequence[str], on_unreadable: Callable[[str, ImageError], None]
) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.uint8]]]:
    """Inputs to quantise on (N, 3, H, W), and images (H, W, 3) of the network's size to judge the result by."""
    assert source.transform is not None  # int8 is for images
    pixels = draw_images(paths, _SAMPLE, source.transform, on_unreadable)
    if len(pixels) < _FEWEST:
        kind = ConfigError if len(paths) < _FEWEST else ImageError  # enough were named, and they cannot be read
        raise kind(f"Quantisation needs at least {_FEWEST} images that can be read, not {len(pixels)}; better 100.")
    judges = list(pixels[::4])
    rest = np.delete(pixels, np.s_[::4], axis=0)
    return np.stack([_prepared(each, source.transform) for each in rest]), judges


def _prepared(pixels: npt.NDArray[np.uint8], transform: ClassificationTransform) -> npt.NDArray[np.float32]:
    """The network's input (3, H, W) of an image (h, w, 3) of any size."""
    return transform(Image.fromarray(pixels)).numpy()


def _compare_images(
    source: _Source,
    run: check.Run,
    runtime: str,
    with_transform: bool,
    judges: Sequence[npt.NDArray[np.uint8]] | None,
) -> check.Agreement:
    transform = source.transform
    assert transform is not None  # of images
    images = [np.asarray(each) for each in check.check_images()] if judges is None else list(judges)
    inputs = np.stack([_prepared(each, transform) for each in images])
    expected = check.in_batches(_of_network(source.graph), inputs)
    found = check.one_by_one(run, images) if with_transform else check.in_batches(run, inputs)
    return check.agreement(found, expected, runtime)


def _compare_texts(source: _Source, run: check.Run, runtime: str) -> check.Agreement:
    tokens = ClipTokenizer(source.graph.example.shape[1])(check.TEXTS).numpy()
    expected = check.in_batches(_of_network(source.graph), tokens)
    return check.agreement(check.in_batches(run, tokens), expected, runtime, "texts")


def _of_network(graph: Graph) -> check.Run:
    """The network itself, in PyTorch."""

    @torch.inference_mode()
    def run(values: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        found: Tensors = graph.module(torch.from_numpy(values))
        return {name: (found[name] if isinstance(found, dict) else found).numpy() for name in graph.outputs}

    return run


def _card(source: _Source, dest: Path, facts: Mapping[str, str], agreement: check.Agreement, precision: str) -> str:
    return model_card(
        CardFacts(
            name=source.name,
            file=dest.name,
            network=facts["network"],
            what=words.what(source.name, facts["network"], dest.name, precision),
            given={source.graph.given: words.given(source.graph, source.transform, facts)},
            outputs={name: words.output(name, source.graph) for name in source.graph.outputs},
            usage=words.usage(dest, source.graph, source.transform, facts, bool(source.classes)),
            checked=agreement.in_words(precision),
            classes=source.classes,
            spec=source.spec,
            adaptation=source.adaptation,
            metadata=facts,
        )
    )
