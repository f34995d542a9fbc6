"""Names that code for the published package imports: `from birder.model_registry import registry`."""

from __future__ import annotations

from birder.model_registry.model_registry import Task, registry

__all__ = ["Task", "registry"]
