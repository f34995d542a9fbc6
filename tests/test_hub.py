"""The loopback hub that other tests rely on, judged by the real client."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE
from huggingface_hub.errors import (
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub import Hub

CONTENT = bytes(range(256)) * 4096  # 1 MiB


def test_client_downloads_a_file_and_then_uses_its_cache(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/model", "weights/model.bin", CONTENT)

    def download() -> Path:
        return Path(hf_hub_download("someone/model", "weights/model.bin", endpoint=hub.url, cache_dir=tmp_path))

    assert download().read_bytes() == CONTENT
    assert [request.method for request in hub.requests] == ["HEAD", "GET"]
    assert download().read_bytes() == CONTENT
    assert [request.method for request in hub.requests] == ["HEAD", "GET", "HEAD"]


def test_a_file_on_disk_is_served_and_data_sets_are_apart_from_models(hub: Hub, tmp_path: Path) -> None:
    source = tmp_path / "table.npy"
    source.write_bytes(CONTENT)
    hub.add("someone/data", "table.npy", source, repo_type="dataset")
    cache = tmp_path / "cache"

    path = hf_hub_download("someone/data", "table.npy", repo_type="dataset", endpoint=hub.url, cache_dir=cache)
    assert Path(path).read_bytes() == CONTENT
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("someone/data", "table.npy", endpoint=hub.url, cache_dir=cache)


@pytest.mark.slow
def test_a_download_that_breaks_off_resumes_where_it_was(hub: Hub, tmp_path: Path) -> None:
    content = CONTENT * 24
    hub.add("someone/model", "model.bin", content)
    hub.cut_after = DOWNLOAD_CHUNK_SIZE + 300_000  # the client keeps whole chunks of what it received
    path = hf_hub_download("someone/model", "model.bin", endpoint=hub.url, cache_dir=tmp_path)
    assert Path(path).read_bytes() == content
    assert [r.range for r in hub.requests if r.method == "GET"] == [None, f"bytes={DOWNLOAD_CHUNK_SIZE}-"]


def test_refusals_are_those_the_client_knows(hub: Hub, tmp_path: Path) -> None:
    hub.add("someone/model", "model.bin", CONTENT)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("nobody/model", "model.bin", endpoint=hub.url, cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("someone/model", "model.bin", revision="v9", endpoint=hub.url, cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("someone/model", "other.bin", endpoint=hub.url, cache_dir=tmp_path)
    hub.token = "hf_secret"
    with pytest.raises(GatedRepoError):
        hf_hub_download("someone/model", "model.bin", token=False, endpoint=hub.url, cache_dir=tmp_path)
    path = hf_hub_download("someone/model", "model.bin", token="hf_secret", endpoint=hub.url, cache_dir=tmp_path)
    assert Path(path).read_bytes() == CONTENT
