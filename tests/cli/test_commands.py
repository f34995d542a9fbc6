"""The commands that tell about weights and classify."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import run_birder, shared_session
from tests.hub import Hub

pytestmark = pytest.mark.slow  # every test runs whole commands

DATA = Path(__file__).parents[1] / "data"
TINY = DATA / "birder" / "vit_tiny_p16_pn_test.pt"


def birder(*arguments: str | Path | int) -> subprocess.CompletedProcess[str]:
    return shared_session().run(*arguments, code=None)


def test_help_lists_the_commands_with_an_example() -> None:
    result = run_birder("--help")
    assert result.returncode == 0
    for command in ("embed", "similar", "classify", "models", "info", "fetch", "failures"):
        assert command in result.stdout
    assert "birder embed IMAGES --in" in result.stdout
    assert birder("--version").stdout.startswith("birder 0.")


def test_models_lists_and_filters() -> None:
    rows = json.loads(birder("models", "--format", "json").stdout)
    by_name = {row["name"]: row for row in rows}
    assert by_name["efficientnet_lite0_in1k"]["here"] == "yes"
    assert by_name["vit_b16_pn_bioclip-v1"]["million parameters"] == 86.2
    filtered = list(csv.DictReader(io.StringIO(birder("models", "bioclip", "--format", "csv").stdout)))
    assert [row["name"] for row in filtered] == sorted(name for name in by_name if "bioclip" in name)
    missing = birder("models", "bioklip")
    assert missing.returncode == 2
    assert "bioclip" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_info_of_registered_weights_and_of_a_file() -> None:
    facts = json.loads(birder("info", "vit_b16_pn_bioclip-v1", "--format", "json").stdout)[0]
    assert facts["parameters"] == 86_192_640
    assert facts["sha256"].startswith("9b2e5598")
    assert facts["licence"] == "MIT"
    assert "2311.18803" in facts["citation"]
    assert "neck, after the final norm (the published package gives stage1" in facts["detection features"]
    assert facts["whole CLIP model"] == "imageomics/bioclip"
    of_file = birder("info", TINY)
    assert of_file.returncode == 0
    assert "'patch_size': 16" in of_file.stdout
    assert "v0.8.4" in of_file.stdout


def test_info_of_an_unknown_model_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    for name in ("nothing", tmp_path / "none.pt"):
        result = birder("info", name)
        assert result.returncode in (1, 2)
        assert result.stderr.startswith("birder: ")
        assert "Traceback" not in result.stderr


def test_fetch_prints_where_the_file_is(hub: Hub, tmp_path: Path) -> None:
    served = hub.add("someone/model", "mine.pt", TINY)
    table = tmp_path / "t.toml"
    table.write_text(
        '[weights.vit_b16_pn_mine]\nnetwork = "vit_b16_pn"\nrepository = "someone/model"\nfile = "mine.pt"\n'
        f'sha256 = "{served.sha256}"\n'
    )
    env = hub.env | {"BIRDER_WEIGHTS": str(table)}
    result = run_birder("fetch", "vit_b16_pn_mine", env=env)
    assert Path(result.stdout.strip()).read_bytes() == TINY.read_bytes(), result.stderr
    carried = tmp_path / "carry" / "mine.pt"
    assert run_birder("fetch", "vit_b16_pn_mine", "--to", carried, env=env).stdout.strip() == str(carried)
    assert carried.read_bytes() == TINY.read_bytes()


def test_classify_names_the_model_and_the_classes(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no")
    result = birder("classify", DATA / "chelsea.png", broken, "-k", 3, "--format", "json")
    rows = json.loads(result.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert any("cat" in row["class"] for row in rows)
    assert rows[0]["probability"] > rows[1]["probability"] > rows[2]["probability"]
    assert "efficientnet_lite0_in1k" in result.stderr
    assert f"{broken}: unknown file format" in result.stderr
    assert result.returncode == 1


def test_classify_refuses_weights_without_class_names(tmp_path: Path) -> None:
    path = tmp_path / "vit_b16_pn_mine.pt"
    path.write_bytes(TINY.read_bytes())
    result = birder("classify", DATA / "chelsea.png", "--model", path)
    assert result.returncode == 1
    assert "no class names" in result.stderr


@pytest.mark.parametrize("args", [["classify"], ["info"], ["nonsense"], ["models", "--format", "xml"]])
def test_wrong_usage_is_reported(args: list[str]) -> None:
    result = birder(*args)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
