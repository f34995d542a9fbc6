"""Frames of videos in the server: what it shows is the frame that was embedded."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from birder.sources import Box, load_source
from birder.sources.find import find_sources
from tests.pipeline.means import collection_in
from tests.pipeline.sourced import rows_of, run
from tests.server.live import serving
from tests.sources.videos import write_video


def test_frames_and_their_boxes_are_shown(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 75, size=(128, 96))
    (video,) = find_sources([path])
    assert video.members is not None
    sources = list(video.members.sources())
    sources[2].box = Box(0.0, 0.0, 0.25, 0.25)
    folder = tmp_path / "a.birder"
    run(folder, sources)
    ids = {row["uri"]: row["id"] for row in collection_in(folder).to_arrow().to_pylist()}
    with serving(folder / "c.birder") as client:
        second = client.get(f"photos/{ids[sources[1].uri]}").json()
        assert second["image"] is True
        assert second["row"]["video_seconds"] == 1.0
        shown = Image.open(io.BytesIO(client.get(f"photos/{second['id']}/image").content))
        embedded = Image.open(io.BytesIO(load_source(sources[1]).data))
        assert shown.size == (128, 96)
        assert abs(shown.convert("L").getpixel((120, 90)) - embedded.convert("L").getpixel((120, 90))) < 4  # type: ignore[operator]
        assert client.get(f"photos/{second['id']}/thumbnail?size=96").status_code == 200
        box = Image.open(io.BytesIO(client.get(f"photos/{ids[sources[2].uri]}/image").content))
        assert box.size == (32, 24)
        assert box.convert("L").getpixel((5, 5)) > 230  # type: ignore[operator]
        assert client.get(f"photos/{ids[sources[2].uri]}/thumbnail?size=96").status_code == 200
    # Kept under the content's own sha256: the server recognised frame and box as what was embedded.
    rows = rows_of(folder)
    assert hashlib.sha256(load_source(sources[1]).data).hexdigest() == rows[sources[1].uri]["sha256"]
    for source in sources[1:]:
        sha256 = str(rows[source.uri]["sha256"])
        assert (folder / "c.birder" / "thumbnails" / sha256[:2] / f"{sha256}-96.jpg").is_file(), source.uri
