"""Pretrained weights: finding, fetching, checking, reading and writing their files."""
