"""Reading a benchmark's folder: every image with its class, in the published order, or what is missing.

A folder that does not hold the benchmark as a whole is refused: a figure on a part of it could not be compared with
anything. No image is opened here.

N is the number of rows, C the number of classes, T that of traits.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from birder.errors import BenchmarkFolderError, ConfigError
from birder.evaluation.benchmark_rows import published_rows
from birder.evaluation.benchmarks import TEST, TRAIN, Benchmark
from birder.sources.text_table import read_text, read_text_table

IMAGES = (".jpg", ".jpeg", ".png")
"""The endings of images in class folders, in small letters."""
_SHOWN = 5


@dataclass(frozen=True)
class BenchmarkFolder:
    """A benchmark's images in their published order.

    Attributes
    ----------
    benchmark, root
        Which one, and the folder.
    files
        N paths, each below the folder.
    texts
        The text of each of the C classes, in their published order.
    codes
        Class of each row, int64 (N): a position in `texts`; -1 where there are traits and no classes.
    parts
        "train" or "test" of each row.
    tasks
        The binary task of each row; None without any.
    traits, trait_names
        Whether a row has each trait, bool (N, T), and the T names; None and () without any.
    """

    benchmark: Benchmark
    root: Path
    files: tuple[Path, ...]
    texts: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    parts: tuple[str, ...]
    tasks: tuple[str, ...] | None = None
    traits: npt.NDArray[np.bool_] | None = None
    trait_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)


@dataclass
class _Row:
    """A row as it is read: its path in the folder, its class, and what else some benchmarks have."""

    path: str
    text: str
    part: str = TEST
    task: str = ""
    traits: Sequence[bool] = ()


def read_benchmark(benchmark: Benchmark, root: str | Path) -> BenchmarkFolder:
    """Read a benchmark's folder, and check that it is whole.

    Parameters
    ----------
    benchmark
        From `birder.evaluation.benchmarks.benchmark`.
    root
        The folder.

    Raises
    ------
    BenchmarkFolderError
        There is no such folder, or something is missing in it, or is not what it should be; the message says how to
        get the benchmark.
    """
    root = Path(root)
    if not root.is_dir():
        raise _refused(benchmark, f"There is no folder {root}.")
    try:
        texts, rows, trait_names = _READ[benchmark.layout](benchmark, root)
    except BenchmarkFolderError:
        raise
    except ConfigError as error:  # a list that is not there, or not to be read
        raise _refused(benchmark, str(error)) from error
    _check_counts(benchmark, root, texts, rows)
    files = _found(benchmark, root, rows)
    position = {text: code for code, text in enumerate(texts)}
    tasks = tuple(row.task for row in rows) if benchmark.task == "binary tasks" else None
    return BenchmarkFolder(
        benchmark,
        root,
        tuple(files),
        tuple(texts),
        np.array([position.get(row.text, -1) for row in rows], np.int64),
        tuple(row.part for row in rows),
        tasks,
        np.array([row.traits for row in rows], bool) if trait_names else None,
        trait_names,
    )


Read = tuple[list[str], list[_Row], tuple[str, ...]]
"""The texts of all classes, the rows, and the names of the traits."""


def _published(benchmark: Benchmark, root: Path) -> Read:
    rows = [_Row(row.path, row.text) for row in published_rows(benchmark.name, benchmark.text_type)]
    return _in_order(row.text for row in rows), rows, ()


def _image_lists(benchmark: Benchmark, root: Path) -> Read:
    """`images.txt`, `image_class_labels.txt` and `classes.txt`, each "key value", as of CUB-200-2011 and NABirds."""
    paths, of, names = (_pairs(root / file) for file in ("images.txt", "image_class_labels.txt", "classes.txt"))
    train = _pairs(root / benchmark.split) if benchmark.split else {}
    rows = []
    for key in sorted(paths, key=lambda key: PurePosixPath(paths[key]).name) if benchmark.sha256 else paths:
        if key not in of or of[key] not in names or (benchmark.split and key not in train):
            raise _refused(benchmark, f"The lists in {root} do not say the class of image {key}.")
        part = TRAIN if train.get(key) == "1" else TEST
        rows.append(_Row(f"images/{paths[key]}", _text(benchmark, names[of[key]]), part))
    return _in_order(row.text for row in rows), rows, ()


def _class_folders(benchmark: Benchmark, root: Path) -> Read:
    """A folder for each class, in order of their names; images in order of theirs."""
    rows = []
    traits, names = _class_traits(benchmark, root)
    for part, folder in benchmark.folders.items():
        if not (root / folder).is_dir():
            raise _refused(benchmark, f"There is no folder {root / folder}.")
        classes = sorted(each.name for each in os.scandir(root / folder) if each.is_dir())
        if part in benchmark.class_lists:
            classes = [line.split()[-1] for line in _lines(root / benchmark.class_lists[part])]
        for name in classes:
            if traits and name not in traits:
                raise _refused(benchmark, f"{root / benchmark.class_lists[part]} names {name!r}, which has no traits.")
            if not (root / folder / name).is_dir():
                raise _refused(benchmark, f"There is no folder {root / folder / name}.")
            files = sorted(each.name for each in os.scandir(root / folder / name) if _is_image(each.name))
            rows += [
                _Row(f"{folder}/{name}/{file}", _text(benchmark, name), part, traits=traits.get(name, ()))
                for file in files
            ]
    return sorted({row.text for row in rows}), rows, names


def _class_traits(benchmark: Benchmark, root: Path) -> tuple[dict[str, list[bool]], tuple[str, ...]]:
    """The traits of each class, and their names, as AwA2 has them."""
    if benchmark.class_traits is None:
        return {}, ()
    classes, matrix, names = (_lines(root / benchmark.class_traits[key]) for key in ("classes", "matrix", "names"))
    known = tuple(line.split()[-1] for line in names)
    table = [[value == "1" for value in line.split()] for line in matrix]
    if len(table) != len(classes) or {len(row) for row in table} != {len(known)}:
        raise _refused(
            benchmark,
            f"{root / benchmark.class_traits['matrix']} is not {len(classes)} classes by {len(known)} traits.",
        )
    return {line.split()[-1]: row for line, row in zip(classes, table, strict=True)}, known


def _path_lists(benchmark: Benchmark, root: Path) -> Read:
    """Files of lines "path, class, ...", and a table whose first columns are the name and the number of a class."""
    table = read_text_table(root / str(benchmark.names))
    if len(table.column_names) < 2:
        raise _refused(benchmark, f"{root / str(benchmark.names)} has no column with the numbers of the classes.")
    texts = [_text(benchmark, name) for name in table.column(0).to_pylist()]
    of = dict(zip(table.column(1).to_pylist(), texts, strict=True))
    rows = []
    for part, file in benchmark.lists.items():
        for line in _lines(root / file):
            path, _, rest = line.partition(",")
            number = rest.partition(",")[0].strip()
            if number not in of:
                raise _refused(benchmark, f"{root / file} has a line without a known class: {line!r}.")
            rows.append(_Row(path.strip(), of[number], part))
    return texts, rows, ()


def _table(benchmark: Benchmark, root: Path) -> Read:
    """CSV files, one for each part or with a column that says the part."""
    rows = []
    used = set(re.findall(r"{(\w+)}", benchmark.image)) | set(benchmark.traits)
    used |= {name for name in (benchmark.label, benchmark.part, benchmark.task_column) if name is not None}
    for part, file in benchmark.tables.items():
        table = read_text_table(root / file)
        if lacking := sorted(used - set(table.column_names)):
            raise _refused(benchmark, f"{root / file} has no column {' and no column '.join(lacking)}.")
        for row in table.select(sorted(used)).to_pylist():
            if not all(row[trait] for trait in benchmark.traits):
                continue
            own = {name: PurePosixPath(row[name]).name for name in used}  # some images are told by their URLs
            rows.append(
                _Row(
                    benchmark.image.format_map(own),
                    row[benchmark.label] if benchmark.label else "",
                    part or (TRAIN if row[str(benchmark.part)] == TRAIN else TEST),
                    row[benchmark.task_column] if benchmark.task_column else "",
                    [row[trait] in ("1", benchmark.positive) for trait in benchmark.traits],
                )
            )
    return sorted({row.text for row in rows} - {""}), rows, benchmark.traits


_READ = {
    "published rows": _published,
    "image lists": _image_lists,
    "class folders": _class_folders,
    "path lists": _path_lists,
    "table": _table,
}


def _check_counts(benchmark: Benchmark, root: Path, texts: Sequence[str], rows: Sequence[_Row]) -> None:
    """Refuse lists that are not the benchmark's; whether the images are there is another question."""
    told = []
    parts = Counter(row.part for row in rows)
    for part, expected in benchmark.rows.items():
        if parts[part] != expected:
            told.append(f"{parts[part]:,} images to {'learn from' if part == TRAIN else 'judge'}, not {expected:,}")
    if benchmark.rows_of_all is not None and len(rows) != benchmark.rows_of_all:
        told.append(f"{len(rows):,} images, not {benchmark.rows_of_all:,}")
    if benchmark.classes is not None and len(texts) != benchmark.classes:
        told.append(f"{len(texts):,} classes, not {benchmark.classes:,}")
    tasks = {row.task for row in rows} - {""}
    if benchmark.tasks is not None and len(tasks) != benchmark.tasks:
        told.append(f"{len(tasks):,} tasks, not {benchmark.tasks:,}")
    if not parts[TEST]:
        told.append("no image to judge")
    if told:
        raise _refused(benchmark, f"{root} has {'; '.join(told)}.{_fewest(rows)}")
    if benchmark.sha256 is not None:
        lines = "\n".join(f"{row.path.removeprefix('images/')}\t{row.text}" for row in rows)
        if hashlib.sha256(lines.encode()).hexdigest() != benchmark.sha256:
            raise _refused(benchmark, f"The lists in {root} name other images or classes than the published ones.")


def _fewest(rows: Sequence[_Row]) -> str:
    """The classes with the fewest images to judge, where something is missing."""
    counts = Counter(row.text for row in rows if row.part == TEST)
    if len(counts) < 2 or min(counts.values()) == max(counts.values()):
        return ""
    fewest = sorted(counts.items(), key=lambda each: (each[1], each[0]))[:_SHOWN]
    return f" The fewest are of {', '.join(f'{text!r} ({count:,})' for text, count in fewest)}."


def _found(benchmark: Benchmark, root: Path, rows: Sequence[_Row]) -> list[Path]:
    """The file of each row; those of published rows are looked for in all folders."""
    places = _by_name(root) if benchmark.layout == "published rows" else {}
    files, missing = [], []
    for row in rows:
        file = _below(root, row.path)
        if file is None or not file.is_file():
            named = places.get(PurePosixPath(row.path).name, [])
            ending = [each for each in named if each.parts[-2:] == PurePosixPath(row.path).parts[-2:]]
            file = ending[0] if len(ending) == 1 else named[0] if len(named) == 1 else None
        if file is None:
            missing.append(row)
        else:
            files.append(file)
    if missing:
        first = ", ".join(row.path for row in missing[:_SHOWN]) + (" ..." if len(missing) > _SHOWN else "")
        classes = Counter(row.text or "without a class" for row in missing).most_common()
        most = ", ".join(f"{text!r} ({count:,})" for text, count in classes[:_SHOWN])
        of = f" They are of {len(classes):,} classes: {most}{' ...' if len(classes) > _SHOWN else ''}."
        raise _refused(
            benchmark,
            f"{len(missing):,} of {len(rows):,} images are missing in {root}: {first}.{of if len(classes) > 1 else ''}",
        )
    if len(set(files)) < len(files):
        twice = next(file for file, count in Counter(files).items() if count > 1)
        raise _refused(benchmark, f"{twice} is listed twice.")
    return files


def _below(root: Path, path: str) -> Path | None:
    """A path of a list below the folder; None if it leads out of it."""
    parts = PurePosixPath(path).parts
    return None if PurePosixPath(path).is_absolute() or ".." in parts else root.joinpath(*parts)


def _by_name(root: Path) -> dict[str, list[Path]]:
    """All files below a folder by their names."""
    places: dict[str, list[Path]] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            places.setdefault(name, []).append(Path(folder, name))
    return places


def _text(benchmark: Benchmark, name: str) -> str:
    """The text of a class, from its name."""
    text = re.sub(benchmark.remove, "", name) if benchmark.remove else name
    for old, new in benchmark.replace.items():
        text = text.replace(old, new)
    return text.strip()


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGES) and not name.startswith(".")


def _in_order(texts: Iterable[str]) -> list[str]:
    """Each text once, in the order in which they first appear."""
    return list(dict.fromkeys(texts))


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip()]


def _pairs(path: Path) -> Mapping[str, str]:
    """A file of lines "key value"."""
    found = {}
    for line in _lines(path):
        key, _, value = line.strip().partition(" ")
        found[key] = value.strip()
    return found


def _refused(benchmark: Benchmark, what: str) -> BenchmarkFolderError:
    return BenchmarkFolderError(
        f"{what} The benchmark {benchmark.name} ({benchmark.title}) is judged as a whole or not at all. "
        f"{benchmark.get} Its page: {benchmark.page}"
    )
