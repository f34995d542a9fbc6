"""Shards of small samples, and a tiny CLIP, for tests of CLIP training."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

TINY = Path(__file__).parents[1] / "data" / "openclip"


def write_shards(folder: Path, images: int, shards: int, *, first: int = 0, damaged: bool = False) -> list[str]:
    """Shards of images in colours and stripes of their own, each with texts of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"shard-{number}.tar" for number in range(shards)]
    for shard, path in enumerate(paths):
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for number in range(first + shard, first + images, shards):
                random = np.random.default_rng(number)
                pixels = random.integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(12, axis=0).repeat(12, axis=1)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
                data = buffer.getvalue()[:100] if damaged and number % 8 == 3 else buffer.getvalue()
                name = f"Genus{number // 4} species{number}"
                texts = {"sci": name, "com": f"bird {number}", "taxon": f"Animalia Aves {name}", "text": name}
                texts |= {"sci_com": f"{name} or bird {number}", "taxon_com": f"Animalia {name} or bird {number}"}
                for ending, content in [("jpg", data), *((f"{k}.txt", v.encode()) for k, v in texts.items())]:
                    info = tarfile.TarInfo(f"{number:04d}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    (folder / "sizes.json").write_text(json.dumps({path.name: images // shards for path in paths}))
    return [str(path) for path in paths]
