"""Classifiers learned from a collection's labels."""
