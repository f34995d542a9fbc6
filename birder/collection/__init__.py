"""Collections: embeddings of images on disk, one row a file; the only room that imports LanceDB."""

from birder.collection.namespace_client import postpone

postpone()
