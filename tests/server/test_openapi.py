"""The interface does what its OpenAPI description says, whatever it is asked: schemathesis makes up the requests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factory import collection_of_images
from tests.server.live import serving

CONFIG = Path(__file__).parents[2] / "schemathesis.toml"


@pytest.mark.slow
def test_schemathesis_finds_no_defect(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 12)
    with serving(tmp_path / "c.birder") as client:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
        command += [str(client.base_url.join("openapi.json")), "--continue-on-failure", "--no-color"]
        command += ["--max-examples", "10", "--seed", "1", "--request-timeout", "60"]
        # It may make up a request for longer than the server keeps a connection that says nothing.
        command += ["--header", "Connection: close"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=tmp_path)
        assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
        assert client.get("collection").json()["rows"] == 12


@pytest.mark.slow
def test_everything_is_described_and_the_page_that_shows_it_needs_no_network(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 2)
    with serving(tmp_path / "c.birder") as client:
        described = client.get("openapi.json").json()
        for path, methods in described["paths"].items():
            assert path.startswith("/api/v1/")
            for method, operation in methods.items():
                assert operation["description"], (method, path)
                assert {"400", "422"} <= set(operation["responses"]), (method, path)
        for name, schema in described["components"]["schemas"].items():
            assert schema.get("description") or name.startswith("Body_"), name
        assert "HTTPValidationError" not in json.dumps(described)
        shown = [client.get(client.base_url.join(f"/docs{each}")) for each in ("", "/interface.js", "/interface.css")]
        assert [answer.status_code for answer in shown] == [200] * 3
        assert not any("https://" in answer.text or "http://" in answer.text for answer in shown)
