"""Data that ships with Birder.

`imagenet-1k-classes.txt`: WordNet 3.0 synsets and names of ILSVRC 2012's classes, in index order.
`bpe_simple_vocab_16e6.txt.gz`: CLIP's byte-pair vocabulary (MIT, OpenAI; its licence lies beside it).
"""
