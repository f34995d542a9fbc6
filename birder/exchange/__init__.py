"""Taking collections elsewhere: export to the field's formats, import of embeddings that others made."""
