"""The collection as users hold it."""

from birder.collection.storage import Storage as Collection
from birder.collection.storage import open_collection

__all__ = ["Collection", "open_collection"]
