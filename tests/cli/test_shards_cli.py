"""`birder shards` as a person runs it."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from birder.collection.storage import Storage
from tests.cli.running import COMMAND, shared_session, with_path
from tests.factory import collection_of_images


@pytest.mark.slow
def test_failures_are_listed_and_the_rest_is_written(tmp_path: Path) -> None:
    collection: Storage = collection_of_images(tmp_path, 8, labelled=8)
    (tmp_path / "photos" / "0000 owl.jpg").write_bytes(b"")
    (tmp_path / "taxa.csv").write_text("label,class,common_name\nowl,Aves,\nfox,Mammalia,red fox\n")
    command = ["shards", collection.path, "--to", tmp_path / "s", "--taxonomy", tmp_path / "taxa.csv", "--size", "16"]
    session = shared_session().at(tmp_path)
    done = session.run(*command, "--val-share", "0.5", "--group-by", "Temp C", code=1)
    assert "Left out: 1 image that cannot be read." in done.stdout
    assert "1 x the file is empty" in done.stderr and "manifest.json" in done.stderr
    assert "Left out: 4 with no taxon" in done.stdout
    refused = session.run(*command, "--size", "32", code=2)
    assert "use --force to replace them" in refused.stderr
    session.run(*command, "--val-share", "0.7", code=2)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_leaves_no_draft(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 40, labelled=40)
    (tmp_path / "taxa.csv").write_text("label,class\nowl,Aves\nfox,Mammalia\n")
    command = [*COMMAND, "shards", collection.path, "--to", tmp_path / "s", "--taxonomy", tmp_path / "taxa.csv"]
    started = [*map(str, command), "--size", "2048", "--records", "2"]
    process = subprocess.Popen(started, stderr=subprocess.PIPE, text=True, env=with_path(None))
    while process.poll() is None and not list(tmp_path.rglob("shard-000001.tar")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "to go on, run the same command again" in process.communicate()[1]
    assert process.returncode == 130
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "s" / "manifest.json").exists()
