"""What is known of a model, in Python as on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from birder.errors import UnknownNameError
from birder.weights.describe import describe_model

TINY = Path(__file__).parents[1] / "data" / "birder" / "vit_tiny_p16_pn_test.pt"


def test_facts_of_registered_weights_need_no_file() -> None:
    facts = describe_model("vit_b16_pn_bioclip-v1")
    assert facts["network"] == "vit_b16_pn" and facts["parameters"] == 86_192_640
    assert facts["whole CLIP model"] == "imageomics/bioclip"


def test_facts_of_a_checkpoint_file_are_read_from_it(tmp_path: Path) -> None:
    path = Path(shutil.copy(TINY, tmp_path / "vit_b16_pn_tiny.pt"))
    facts = describe_model(str(path))
    assert facts["file"] == str(path) and facts["network"] == "vit_b16_pn"
    assert len(facts["sha256"]) == 64 and facts["written by birder"]


def test_unknown_model_is_refused_by_its_class() -> None:
    with pytest.raises(UnknownNameError):
        describe_model("nothing")
