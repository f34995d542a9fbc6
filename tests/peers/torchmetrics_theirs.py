"""torchmetrics' figures of the same predictions: run by the interpreter of .venv-peers.

Reads one JSON job from standard input: {inputs: file.npz with `probabilities` (N, C), `true` (N,), and the scores
`known` and `unknown`, outputs: file.npz to write}.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from torchmetrics.functional import classification as theirs

job = json.load(sys.stdin)
inputs = np.load(job["inputs"])
probabilities, true = torch.from_numpy(inputs["probabilities"]), torch.from_numpy(inputs["true"])
classes = probabilities.shape[1]
known, unknown = torch.from_numpy(inputs["known"]), torch.from_numpy(inputs["unknown"])
scores = torch.cat([known, unknown])
is_unknown = torch.cat([torch.zeros(len(known), dtype=torch.int64), torch.ones(len(unknown), dtype=torch.int64)])
found = {
    f"top{k}": theirs.multiclass_accuracy(probabilities, true, classes, top_k=k, average="micro") for k in (1, 3, 5)
}
for average in ("macro", "none"):
    found[f"recall_{average}"] = theirs.multiclass_recall(probabilities, true, classes, average=average)
    found[f"precision_{average}"] = theirs.multiclass_precision(probabilities, true, classes, average=average)
    found[f"f1_{average}"] = theirs.multiclass_f1_score(probabilities, true, classes, average=average)
found["confusion"] = theirs.multiclass_confusion_matrix(probabilities, true, classes)
found["ece_15"] = theirs.multiclass_calibration_error(probabilities, true, classes, n_bins=15, norm="l1")
found["auroc"] = theirs.binary_auroc(scores, is_unknown)
np.savez(job["outputs"], **{name: value.numpy() for name, value in found.items()})
