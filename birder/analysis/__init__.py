"""Understanding a collection: projection, duplicates, agreement, stats."""
