"""Make tests/data/pybioclip by pybioclip's own commands: run by the interpreter of .venv-peers.

    cd examples/photos && python ../../tests/peers/make_pybioclip_files.py ../../tests/data

The model is the small CLIP of tests/data/openclip, and the label table a small one of four species; everything that is
written is by `bioclip.commands` of pybioclip 2.1.6, as `bioclip embed`, `bioclip predict` and its --log are. Only
predict.json is by `json.dump`, from what `predict` returns in Python.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from bioclip import commands, predict, recorder
from bioclip.predict import Rank, TreeOfLifeClassifier

IMAGES = ["birds/owl.jpg", "mammals/badger.jpg"]
SPECIES = [
    ("Animalia Chordata Aves Strigiformes Strigidae Strix aluco", "tawny owl"),
    ("Animalia Chordata Aves Strigiformes Strigidae Bubo bubo", ""),
    ("Animalia Chordata Mammalia Carnivora Mustelidae Meles meles", "European badger"),
    ("Plantae Tracheophyta Magnoliopsida Fagales Fagaceae Quercus robur", "oak"),
]


def main(data: Path) -> None:
    to = data / "pybioclip"
    model = f"local-dir:{data / 'openclip'}"
    predict.TOL_MODELS[model] = "here"
    with tempfile.TemporaryDirectory() as folder:
        files = {f"embeddings/txt_emb_species.{ending}": Path(folder) / f"names.{ending}" for ending in ("npy", "json")}
        names, embeddings = files["embeddings/txt_emb_species.json"], files["embeddings/txt_emb_species.npy"]
        names.write_text(json.dumps([[taxon.split(), common] for taxon, common in SPECIES]))
        width = json.loads((data / "openclip" / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"]
        drawn = np.random.default_rng(0).normal(size=(width, len(SPECIES))).astype("f4")
        np.save(embeddings, drawn / np.linalg.norm(drawn, axis=0))
        # The only thing replaced: where the label table comes from, which is the hub's data set otherwise.
        TreeOfLifeClassifier.get_cached_datafile = lambda self, filename: files[filename]
        commands.embed(IMAGES, str(to / "embed.json"), model_str=model)
        options = {"format": "csv", "bins_path": None, "k": 3, "subset": None, "batch_size": 10, "model_str": model}
        for name, rank in (("species", Rank.SPECIES), ("family", Rank.FAMILY)):
            commands.predict(IMAGES, output=str(to / f"{name}.csv"), cls_str=None, rank=rank, log=None, **options)
        commands.predict(
            IMAGES, output=str(to / "classes.csv"), cls_str="owl,badger", rank=None, log=None, **{**options, "k": 2}
        )
        classifier = TreeOfLifeClassifier(model_str=model)
        recorder.attach_prediction_recorder(classifier, subset=None)
        found = classifier.predict(images=IMAGES, rank=Rank.SPECIES, k=3)
        (to / "predict.json").write_text(json.dumps(found, indent=1))
        (to / "log.json").unlink(missing_ok=True)
        recorder.save_recorded_predictions(classifier, str(to / "log.json"), include_command_line=False)
        for file in to.iterdir():  # the folder of this machine
            file.write_text(file.read_text().replace(model, "local-dir:openclip"))


main(Path(sys.argv[1]))
