"""`birder detect` writes what the published megadetector package's own validator accepts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from PIL import Image

import birder

DATA = Path(__file__).parents[1] / "data"
VALIDATE = """
import json, sys
from megadetector.postprocessing.validate_batch_results import ValidateBatchResultsOptions, validate_batch_results
options = ValidateBatchResultsOptions()
options.check_image_existence, options.relative_path_base = True, sys.argv[2]
print(json.dumps(validate_batch_results(sys.argv[1], options)["validation_results"]))
"""


def test_validator_accepts_the_results(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "card").mkdir(parents=True)
    shutil.copy(DATA / "chelsea.png", images / "card" / "cat.png")
    Image.new("RGB", (300, 200), (90, 120, 90)).save(images / "empty.png")
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not more than this")
    birder.detect(images, to=tmp_path / "boxes.json", progress=None)
    command = [os.environ["BIRDER_PEERS"], "-c", VALIDATE, str(tmp_path / "boxes.json"), str(images)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["errors"] == [] and found["warnings"] == []
    assert found["detection_category_id_to_count"]["1"] > 0
