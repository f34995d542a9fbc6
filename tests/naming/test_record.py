"""The record of a run of `predict`."""

from __future__ import annotations

import json
from pathlib import Path

from birder.naming.record import Record


def test_record_has_the_given_settings_and_each_image_once(tmp_path: Path) -> None:
    record = Record(tmp_path / "log.json", ["birder", "predict", "an owl.jpg"])
    record.write(
        model="tiny",
        sha256="ab",
        device=None,
        settings={"--labels": "owl,fox", "--rank": None, "--bins": Path("bins.csv"), "-k": 5, "--template": ["{}"]},
        output=tmp_path / "names.csv",
        saved=False,
        images=["owl.jpg", "owl.jpg", "fox.jpg"],
        unreadable=["broken.jpg"],
    )
    written = json.loads((tmp_path / "log.json").read_text())
    assert written["command"] == "birder predict 'an owl.jpg'"
    assert written["settings"] == {"--labels": "owl,fox", "--bins": "bins.csv", "-k": 5, "--template": ["{}"]}
    assert (written["images"], written["unreadable"]) == (["owl.jpg", "fox.jpg"], ["broken.jpg"])
    assert written["output"] == str(tmp_path / "names.csv") and written["started"] <= written["ended"]
