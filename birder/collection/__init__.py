"""Collections: embeddings of photographs on disk, one row a file (`store`), and what fills them (`embed`)."""
