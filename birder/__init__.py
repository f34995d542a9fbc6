"""Birder: embeddings, names and search for images of organisms.

Everything public is here, and imported when it is first used: `import birder` itself is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from birder.version import __version__

if TYPE_CHECKING:
    from birder.analysis.activity import Activity, Species
    from birder.analysis.agreement import Agreement
    from birder.analysis.projection import MapPoints
    from birder.analysis.stats import ColumnStats, Stats, ValueCount
    from birder.collection.accepting import Accepted
    from birder.collection.api import (
        Collection,
        ImportReport,
        create_collection,
        open_collection,
    )
    from birder.collection.backup import Backup
    from birder.collection.benchmarking import evaluate_benchmark
    from birder.collection.clip_training import ClipTraining, train_clip
    from birder.collection.comparing import Comparison
    from birder.collection.detecting import Detected
    from birder.collection.detector_training import TrainedDetector, train_detector
    from birder.collection.evaluating import Evaluation
    from birder.collection.filter import Filter, parse_filter
    from birder.collection.functions import (
        classify,
        detect,
        embed,
        image_features,
        import_file,
        list_taxa,
        predict,
    )
    from birder.collection.index import IndexStatus
    from birder.collection.journal import Change
    from birder.collection.labels import HistoryPage, PastAct, Undone
    from birder.collection.maintenance import Tidied
    from birder.collection.relocate import Relocated
    from birder.collection.reproducing import Reproduction, reproduce
    from birder.collection.results import (
        Duplicates,
        HeldOut,
        ImageFeatures,
        Predictions,
        Rows,
        SearchResults,
        Sequences,
    )
    from birder.collection.schema import ModelCard
    from birder.collection.sequencing import Shifted
    from birder.collection.training import Trained
    from birder.errors import (
        BenchmarkFolderError,
        BirderError,
        CollectionBusyError,
        CollectionError,
        CollectionNotFoundError,
        ConfigError,
        FileExistsError,
        FilterError,
        HubError,
        ImageError,
        ImagesMovedError,
        MissingExtraError,
        MissingPackageError,
        NoTextEncoderError,
        RowNotFoundError,
        TornCopyError,
        UnknownNameError,
        WeightsError,
        WriteError,
        WrongModelError,
    )
    from birder.formats.camtrap.write import Project
    from birder.formats.table import ExportReport
    from birder.images.open import open_image
    from birder.images.transform import classification_transform
    from birder.inference.classification import infer_batch, infer_dataloader, infer_image
    from birder.inference.export.run import ExportedModel, export_model
    from birder.inference.export.web import FieldApp, export_to_web
    from birder.learning.adapt import Adapted
    from birder.learning.make_shards import ShardsMade
    from birder.learning.suggest import Suggestion, Suggestions
    from birder.pipeline.run import EmbedReport, Progress
    from birder.registry import (
        create_network,
        list_networks,
        list_pretrained_models,
        register_weights,
    )
    from birder.weights.checkpoint import (
        get_channels_from_signature,
        get_num_labels_from_signature,
        get_size_from_signature,
        save_model,
    )
    from birder.weights.clip import create_model_and_transforms, get_tokenizer, load_clip
    from birder.weights.load import (
        ModelInfo,
        load_model,
        load_model_with_cfg,
        load_pretrained_model,
        load_pretrained_model_and_transform,
    )
    from birder.weights.loaded_clip import LoadedClip

_HOMES = {
    "birder.analysis.activity": ["Activity", "Species"],
    "birder.analysis.agreement": ["Agreement"],
    "birder.analysis.projection": ["MapPoints"],
    "birder.analysis.stats": ["ColumnStats", "Stats", "ValueCount"],
    "birder.learning.suggest": ["Suggestion", "Suggestions"],
    "birder.collection.backup": ["Backup"],
    "birder.collection.evaluating": ["Evaluation"],
    "birder.collection.filter": ["Filter", "parse_filter"],
    "birder.collection.api": ["Collection", "ImportReport", "create_collection", "open_collection"],
    "birder.collection.benchmarking": ["evaluate_benchmark"],
    "birder.collection.comparing": ["Comparison"],
    "birder.collection.detecting": ["Detected"],
    "birder.collection.clip_training": ["ClipTraining", "train_clip"],
    "birder.collection.detector_training": ["TrainedDetector", "train_detector"],
    "birder.collection.functions": [
        "classify",
        "detect",
        "embed",
        "image_features",
        "import_file",
        "list_taxa",
        "predict",
    ],
    "birder.collection.index": ["IndexStatus"],
    "birder.collection.journal": ["Change"],
    "birder.collection.accepting": ["Accepted"],
    "birder.collection.labels": ["HistoryPage", "PastAct", "Undone"],
    "birder.collection.maintenance": ["Tidied"],
    "birder.collection.relocate": ["Relocated"],
    "birder.collection.reproducing": ["Reproduction", "reproduce"],
    "birder.collection.results": [
        "Duplicates",
        "HeldOut",
        "ImageFeatures",
        "Predictions",
        "Rows",
        "SearchResults",
        "Sequences",
    ],
    "birder.collection.schema": ["ModelCard"],
    "birder.collection.sequencing": ["Shifted"],
    "birder.collection.training": ["Trained"],
    "birder.errors": [
        "BenchmarkFolderError",
        "BirderError",
        "CollectionBusyError",
        "CollectionError",
        "CollectionNotFoundError",
        "ConfigError",
        "FileExistsError",
        "FilterError",
        "HubError",
        "ImageError",
        "ImagesMovedError",
        "MissingExtraError",
        "MissingPackageError",
        "NoTextEncoderError",
        "RowNotFoundError",
        "TornCopyError",
        "UnknownNameError",
        "WeightsError",
        "WriteError",
        "WrongModelError",
    ],
    "birder.formats.camtrap.write": ["Project"],
    "birder.formats.table": ["ExportReport"],
    "birder.images.open": ["open_image"],
    "birder.images.transform": ["classification_transform"],
    "birder.inference.classification": ["infer_batch", "infer_dataloader", "infer_image"],
    "birder.inference.export.run": ["ExportedModel", "export_model"],
    "birder.inference.export.web": ["FieldApp", "export_to_web"],
    "birder.learning.adapt": ["Adapted"],
    "birder.learning.make_shards": ["ShardsMade"],
    "birder.pipeline.run": ["EmbedReport", "Progress"],
    "birder.registry": ["create_network", "list_networks", "list_pretrained_models", "register_weights"],
    "birder.weights.checkpoint": [
        "get_channels_from_signature",
        "get_num_labels_from_signature",
        "get_size_from_signature",
        "save_model",
    ],
    "birder.weights.clip": ["create_model_and_transforms", "get_tokenizer", "load_clip"],
    "birder.weights.loaded_clip": ["LoadedClip"],
    "birder.weights.load": [
        "ModelInfo",
        "load_model",
        "load_model_with_cfg",
        "load_pretrained_model",
        "load_pretrained_model_and_transform",
    ],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Accepted",
    "Activity",
    "Adapted",
    "Agreement",
    "Backup",
    "BenchmarkFolderError",
    "BirderError",
    "Change",
    "ClipTraining",
    "Collection",
    "CollectionBusyError",
    "CollectionError",
    "CollectionNotFoundError",
    "ColumnStats",
    "Comparison",
    "ConfigError",
    "Detected",
    "Duplicates",
    "EmbedReport",
    "Evaluation",
    "ExportReport",
    "ExportedModel",
    "FieldApp",
    "FileExistsError",
    "Filter",
    "FilterError",
    "HeldOut",
    "HistoryPage",
    "HubError",
    "ImageError",
    "ImageFeatures",
    "ImagesMovedError",
    "ImportReport",
    "IndexStatus",
    "LoadedClip",
    "MapPoints",
    "MissingExtraError",
    "MissingPackageError",
    "ModelCard",
    "ModelInfo",
    "NoTextEncoderError",
    "PastAct",
    "Predictions",
    "Progress",
    "Project",
    "Relocated",
    "Reproduction",
    "RowNotFoundError",
    "Rows",
    "SearchResults",
    "Sequences",
    "ShardsMade",
    "Shifted",
    "Species",
    "Stats",
    "Suggestion",
    "Suggestions",
    "Tidied",
    "TornCopyError",
    "Trained",
    "TrainedDetector",
    "Undone",
    "UnknownNameError",
    "ValueCount",
    "WeightsError",
    "WriteError",
    "WrongModelError",
    "__version__",
    "classification_transform",
    "classify",
    "create_collection",
    "create_model_and_transforms",
    "create_network",
    "detect",
    "embed",
    "evaluate_benchmark",
    "export_model",
    "export_to_web",
    "get_channels_from_signature",
    "get_num_labels_from_signature",
    "get_size_from_signature",
    "get_tokenizer",
    "image_features",
    "import_file",
    "infer_batch",
    "infer_dataloader",
    "infer_image",
    "list_networks",
    "list_pretrained_models",
    "list_taxa",
    "load_clip",
    "load_model",
    "load_model_with_cfg",
    "load_pretrained_model",
    "load_pretrained_model_and_transform",
    "open_collection",
    "open_image",
    "parse_filter",
    "predict",
    "register_weights",
    "reproduce",
    "save_model",
    "train_clip",
    "train_detector",
]


if not TYPE_CHECKING:  # a type checker knows the names from the imports above, and that there are no others

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'birder' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
