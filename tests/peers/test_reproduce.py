"""Agreement of `birder reproduce` with pybioclip, and of its stored reference with BioCLIP's own evaluation code.

Texts of benchmarks' classes: the same templates, classes and text embeddings from the same checkpoint as pybioclip's
(BIRDER_PEERS, from `make peers`). tests/data/bioclip-evaluation, which tests/evaluation/test_bioclip_code.py compares
Birder with, is what BioCLIP's code gives; with BIRDER_BIOCLIP and BIRDER_BIOCLIP_2, checkouts of github.com/Imageomics/
bioclip and bioclip-2, it is made again and compared.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from birder.evaluation.benchmark_rows import published_rows
from birder.evaluation.benchmarks import benchmark
from birder.naming.by_texts import name_by_texts
from birder.naming.prompts import OPENAI_TEMPLATES
from birder.weights.clip import load_clip

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
STORED = DATA / "bioclip-evaluation"
TOLERANCE = 1e-5
CHECKOUTS = [os.environ.get(name, "") for name in ("BIRDER_BIOCLIP", "BIRDER_BIOCLIP_2")]


def theirs(script: str, *arguments: object, job: str = "") -> None:
    """Run a script of this folder; those of pybioclip and BioCLIP see nothing of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = Path(os.environ["BIRDER_PEERS"]).absolute()
    done = subprocess.run(
        [python, HERE / script, *map(str, arguments)], input=job, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["rare-species", "idle-oo/island", "meta-album/FNG_Mini", "meta-album/PLT_VIL_Mini"])
def test_classes_and_their_texts_are_those_of_pybioclip(name: str, tmp_path: Path) -> None:
    rows = published_rows(name, benchmark(name).text_type)
    texts = list(dict.fromkeys(row.text for row in rows))[:40]
    outputs = tmp_path / "texts.npz"
    folder = tmp_path / "clip"
    theirs("pybioclip_theirs.py", job=json.dumps({"do": "write", "folder": str(folder)}))
    job = {"do": "texts", "folder": str(folder), "labels": texts, "outputs": str(outputs)}
    theirs("pybioclip_theirs.py", job=json.dumps(job))
    with np.load(outputs) as found:
        names = name_by_texts(load_clip(folder), source=texts)
        assert [template.replace("{}", "NAME") for template in OPENAI_TEMPLATES] == found["templates"].tolist()
        assert names.labels.names.column("label").to_pylist() == found["classes"].tolist()
        np.testing.assert_allclose(names.labels.matrix, found["texts"], atol=TOLERANCE)


@pytest.mark.skipif(not all(CHECKOUTS), reason="BIRDER_BIOCLIP and BIRDER_BIOCLIP_2 name no checkouts")
def test_the_stored_reference_is_what_bioclip_s_code_gives(tmp_path: Path) -> None:
    theirs("make_bioclip_reference.py", *CHECKOUTS, tmp_path)
    assert json.loads((tmp_path / "reference.json").read_text("utf-8")) == json.loads(
        (STORED / "reference.json").read_text("utf-8")
    )
    with np.load(tmp_path / "reference.npz") as made, np.load(STORED / "reference.npz") as stored:
        assert set(made) == set(stored)
        for name in made:
            np.testing.assert_allclose(made[name], stored[name], atol=TOLERANCE * np.abs(stored[name]).max())
