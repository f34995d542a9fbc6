"""The version of Birder, written into every checkpoint."""

__version__ = "0.2.0"
