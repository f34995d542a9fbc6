"""What a user's word for a detector means: one that is installed with Birder, or an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from birder.errors import UnknownNameError, WeightsError, unknown_name
from birder.registry import detectors
from birder.weights.hub import check_is_file, sha256_of

DATA = Path(__file__).parents[1] / "data"
_ENDING = ".onnx"


@dataclass(frozen=True)
class DetectorFile:
    """A detector's name, its ONNX file, and that file's sha256."""

    name: str
    path: Path
    sha256: str


def resolve_detector(word: str | Path | None = None) -> DetectorFile:
    """Tell which file a word for a detector means; the graph itself is read by `birder.inference.detector.Detector`.

    Parameters
    ----------
    word
        A registered name, or the path of an ONNX file (default: the detector that is installed with Birder).

    Raises
    ------
    UnknownNameError
        It is neither.
    WeightsError
        The file does not exist, or the installed one is damaged.
    """
    known = detectors()
    name = next(iter(known)) if word is None else str(word)
    if name in known:
        path = DATA / known[name].file
        check_is_file(path)
        if (found := sha256_of(path)) != known[name].sha256:
            raise WeightsError(f"{path} is damaged: its sha256 is {found}. Install Birder again.")
        return DetectorFile(name, path, found)
    path = Path(name)
    if path.suffix.lower() != _ENDING:
        error: UnknownNameError = unknown_name("detector", name, known)
        raise UnknownNameError(f"{error} A detector of your own is an ONNX file: MegaDetector.onnx")
    check_is_file(path)
    return DetectorFile(path.stem, path, sha256_of(path))
