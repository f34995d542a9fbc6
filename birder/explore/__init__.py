"""Understanding a collection: its map, duplicates, what is in it, labels, and keeping its folder tidy."""
