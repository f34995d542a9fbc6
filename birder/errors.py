"""The errors that Birder raises on purpose.

Every one is a `BirderError`; its message says what is wrong and what to do next. The command line prints the message
alone, so a traceback is always a defect of Birder.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BirderError(Exception):
    """Base of all errors that Birder raises on purpose."""


class UnknownNameError(BirderError, ValueError):
    """A network, weights, column or option that Birder does not know."""


class ConfigError(BirderError, ValueError):
    """A network configuration, size or argument that cannot be built."""


class WeightsError(BirderError):
    """A checkpoint that is missing, damaged, foreign, or does not fit its network."""


class HubError(WeightsError):
    """Weights that could not be fetched: the hub is out of reach or does not have them."""


class ImageError(BirderError):
    """A file that cannot be used as a photograph."""


class CollectionError(BirderError):
    """A collection that is missing, damaged, or belongs to another model."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for an unknown name, with the closest known ones (all of them where none is close)."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(names) or 'none'}."
    return UnknownNameError(f"Unknown {kind} {name!r}. {hint}")
