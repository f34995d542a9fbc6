"""Maps as PNG and HTML."""
