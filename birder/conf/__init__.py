"""Names that code for the published package imports: `from birder.conf import settings`."""
