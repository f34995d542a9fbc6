"""Uris for rows from other tools: made from what their file tells of each, the same every time it is read."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from urllib.parse import quote

from birder.sources import path_to_uri


class RowUris:
    """Gives each row of a file a uri of its own.

    In this order: the address, unless another row had it before; `urn:uuid:` and the identity, where that is a UUID;
    `urn:birder:id:` and any other identity; the address with the number of its occurrence; `urn:birder:row:` and the
    digest of the row's values. Relative paths are taken from the file's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._given: set[bytes] = set()

    def uri(self, address: str | None, identity: str | None, digest: str) -> str:
        """The uri of the next row."""
        candidates = []
        if address:
            candidates.append(self._absolute(address))
        if identity:
            try:
                candidates.append(f"urn:uuid:{uuid.UUID(identity)}")
            except ValueError:
                candidates.append(f"urn:birder:id:{quote(identity, safe='')}")
        if not candidates:
            candidates.append(f"urn:birder:row:{digest}")
        for candidate in candidates:
            if self._is_new(candidate):
                return candidate
        number = 2
        while not self._is_new(f"{candidates[0]}#{number}"):
            number += 1
        return f"{candidates[0]}#{number}"

    def _absolute(self, address: str) -> str:
        scheme, colon, _ = address.partition(":")
        if colon and len(scheme) > 1 and scheme.replace("+", "").isalnum():  # C:\ is a drive
            return address
        return path_to_uri(self._folder / address)

    def _is_new(self, uri: str) -> bool:
        key = hashlib.blake2b(uri.encode("utf-8", "replace"), digest_size=16).digest()
        if key in self._given:
            return False
        self._given.add(key)
        return True
