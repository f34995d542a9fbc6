"""The collection as users hold it."""

from birder.collection.storage import Storage as Collection

open_collection = Collection.open

__all__ = ["Collection", "open_collection"]
