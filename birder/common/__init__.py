"""Names that code for the published package imports: `birder.common.fs_ops` and `birder.common.lib`.

Birder itself does not use them; they call the functions that docs/inference.md and docs/weights.md describe.
"""
