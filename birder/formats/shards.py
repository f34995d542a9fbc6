"""Shards as TreeOfLife has them: tar files of samples, each KEY.jpg and the texts KEY.NAME.txt.

The same samples make the same bytes: nothing in a shard tells when, where or by whom it was written. The layout is that
of webdataset's `TarWriter`, with which the published shards were made (Imageomics' `scripts/evobio10m/make_wds.py`).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

IMAGE = "jpg"
MOST_BYTES = 3_000_000_000
"""A shard takes no further sample once its members have so many bytes."""
_QUALITY = 100
_OWNER = "bigdata"


def shard_name(number: int) -> str:
    """The name of a shard's file."""
    return f"shard-{number:06d}.tar"


def to_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An image (H, W, 3) uint8 as a JPEG of the published quality."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


class ShardWriter:
    """Writes samples into a file that is open for writing; nothing is kept in memory.

    Attributes
    ----------
    records
        How many samples there are.
    size
        The bytes of their members, without headers.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = _Hashed(file)
        # It is only written to; whoever opened it closes it.
        self._archive = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[call-overload]  # noqa: SIM115
        self.records = 0
        self.size = 0

    def add(self, key: str, image: bytes, texts: Mapping[str, str]) -> None:
        """Add a sample: its key, an ASCII name without a dot; its JPEG; its texts by name."""
        members = {IMAGE: image} | {f"{name}.txt": text.encode() for name, text in texts.items()}
        for ending in sorted(members):
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size = len(members[ending])
            member.mode = 0o444
            member.uname = member.gname = _OWNER
            self._archive.addfile(member, io.BytesIO(members[ending]))
            self.size += member.size
        self.records += 1

    def close(self) -> tuple[int, str]:
        """Write the end of the tar file; returns the size of the file in bytes and its sha256."""
        self._archive.close()
        return self._file.size, self._file.digest.hexdigest()


class _Hashed:
    """A file that is written to, and the digest of all of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def tell(self) -> int:
        return self.size

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)
