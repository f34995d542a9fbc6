"""Data that ships with Birder: imagenet-1k-classes.txt (WordNet 3.0 synsets and names, ILSVRC 2012, in index order)."""
