"""The version of Birder, written into every checkpoint."""

__version__ = "0.4.0"
