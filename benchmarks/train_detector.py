"""How long it takes to train a detector, and how good it is: raccoons, on a frozen EfficientNet-Lite0.

    .venv/bin/python benchmarks/train_detector.py RACCOON [OPTION ...]

RACCOON is Tran's raccoon_dataset (200 images with 217 boxes in Pascal VOC's XML). The images whose number is divisible
by 5 are judged: raccoon-5, raccoon-10, ... raccoon-200, 40 images with 43 boxes; the other 160 are learned from.
Options behind the folder go to `birder train-detector`. Printed are its own summary, the time, the processor's time and
the largest memory; beside the AP50 of the trained detector stands that of the one that is installed with Birder, on the
same 40.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def judged(folder: Path) -> list[str]:
    """The names of the images that are judged."""
    numbers = [int(re.findall(r"\d+", file.stem)[0]) for file in folder.rglob("*.xml")]
    return [f"raccoon-{number}" for number in sorted(numbers) if number % 5 == 0]


def main() -> None:
    """Train, and print what it took."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    raccoon, options = Path(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        val = folder / "judged.txt"
        val.write_text("\n".join(judged(raccoon)) + "\n")
        command = [
            sys.executable, "-m", "birder", "train-detector", "--voc", str(raccoon), "--val", str(val),
            "--to", str(folder / "raccoon.pt"), "--report", str(folder / "report"), *options,
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (folder / "raccoon.pt").stat().st_size
    print(
        f"{seconds / 60:.1f} minutes, {(used.ru_utime + used.ru_stime) / 60:.1f} of one core; "
        f"{used.ru_maxrss / 2**20:.2f} GiB of memory; the file has {size / 2**20:.1f} MiB"
    )


if __name__ == "__main__":
    main()
