"""The published `birder.eval`: run by the interpreter of .venv-peers, where `birder` is theirs.

Reads one JSON job from standard input: `parquet`, a file that their `load_embeddings` reads; `split`, an .npz with
`train` (N,) and `test` (N,), masks of its rows, and `weight` and `bias` of a linear layer. Prints their figures.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from birder.eval._embeddings import l2_normalize, load_embeddings
from birder.eval.methods.knn import evaluate_knn
from birder.eval.methods.linear import evaluate_linear_probe, train_linear_probe
from birder.eval.methods.retrieval import evaluate_retrieval
from birder.eval.methods.simpleshot import evaluate_simpleshot

job = json.load(sys.stdin)
frame = load_embeddings(job["parquet"], with_label=True)
x = frame.get_column("embedding").to_numpy().astype(np.float32)
y = frame.get_column("label").to_numpy().astype(np.int_)
split = np.load(job["split"])
train, test = split["train"], split["test"]
results = {"ids": frame.get_column("id").to_list()}
for k in (1, 24):
    results[f"knn {k}"] = evaluate_knn(x[train], y[train], x[test], y[test], k=k)[0].tolist()
units = l2_normalize(x)
results["simpleshot"] = evaluate_simpleshot(units[train], y[train], units[test], y[test])[0].tolist()
precision, recall = evaluate_retrieval(x[train], y[train], x[test], y[test], [1, 5, 10])
results["map"] = precision
results["recall"] = [recall[k] for k in (1, 5, 10)]
layer = torch.nn.Linear(x.shape[1], len(split["bias"]))
with torch.no_grad():
    layer.weight.copy_(torch.from_numpy(split["weight"]))
    layer.bias.copy_(torch.from_numpy(split["bias"]))
results["our layer"] = evaluate_linear_probe(layer, x[test], y[test])[0].tolist()
scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
theirs = train_linear_probe(scaled[train], y[train], len(split["bias"]), torch.device("cpu"), epochs=30, batch_size=64)
results["their layer"] = evaluate_linear_probe(theirs, scaled[test], y[test])[0].tolist()
print(json.dumps(results))
