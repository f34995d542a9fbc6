"""Collections: embeddings of images on disk, one row a file; the only room that imports LanceDB."""
