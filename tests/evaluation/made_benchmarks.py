"""Small folders in the layouts of all benchmarks, images of one colour a class, and a model that knows the answers.

An image is three times as wide as high: its centre has the colour of its class, its edges have that of another one, so
that only a centre crop can be named right.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from birder.evaluation.benchmark_rows import Row, published_rows
from birder.evaluation.benchmarks import Benchmark, TextType, benchmark

CLIP = Path(__file__).parents[1] / "data" / "openclip"
COLOURS = ((220, 30, 30), (30, 190, 40), (40, 60, 220), (230, 220, 40))
CLASSES, EACH = 3, 10
Draw = Callable[[Path, int, int], None]
"""Makes an image at a path, of a class, with a number."""


def draw(path: Path, code: int, number: int) -> None:
    """A new image of a class; those of other numbers have other sizes, and the same colours."""
    side = 20 + number
    pixels = np.empty((side, 3 * side, 3), np.uint8)
    pixels[:] = COLOURS[(code + 1) % len(COLOURS)]
    pixels[:, side // 2 : 3 * side - side // 2] = COLOURS[code]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")


def touch(path: Path, code: int, number: int) -> None:
    """An empty file, for readers, which open no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@cache
def small_rows(name: str, text_type: TextType) -> list[Row]:
    """The published rows of the first classes, as many of each as are made here."""
    published = published_rows(name, text_type)
    rows = sorted(published, key=lambda row: row.text)
    each = [list(group)[:EACH] for _, group in groupby(rows, lambda row: row.text)]
    chosen = {row for group in [group for group in each if len(group) == EACH][:CLASSES] for row in group}
    return [row for row in published if row in chosen]


def make(name: str, root: Path, draw: Draw = draw) -> Benchmark:
    """Make a small folder of a benchmark; its entry, which expects what is there."""
    entry = benchmark(name)
    made = MAKERS[name if name in MAKERS else entry.layout](entry, root, draw)
    rows = {"test": CLASSES * EACH, "train": CLASSES * EACH}
    return replace(
        made,
        rows={part: rows[part] for part in entry.rows},
        rows_of_all=None if entry.rows_of_all is None else 2 * CLASSES * EACH,
        classes=None if entry.classes is None else 2 * CLASSES if entry.class_lists else CLASSES,
        tasks=None if entry.tasks is None else 2,
        sha256=None,
    )


def _published(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    rows = small_rows(entry.name, entry.text_type)
    texts = list(dict.fromkeys(row.text for row in rows))
    for number, row in enumerate(rows):
        draw(root / "data" / row.path, texts.index(row.text), number)
    return entry


def _image_lists(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    images, labels, split = [], [], []
    classes = ["1 001.Black_footed_Albatross", "2 002.Laysan_Albatross", "3 003.Sooty_Albatross", "4 004.A_bird"]
    if entry.split is None:
        classes = ["1 Common Eider", "2 Oak Titmouse", "3 Ovenbird (Adult)", "4 Birds"]
    parts = ("train", "test") if entry.split else ("test",)
    rows = [(part, code, n) for part in parts for n in range(EACH) for code in range(CLASSES)]
    for number, (part, code, n) in enumerate(rows):
        key, path = f"k{number}", f"00{code}/{part}{n}_{code}.jpg"
        images.append(f"{key} {path}")
        labels.append(f"{key} {code + 1}")
        split.append(f"{key} {int(part == 'train')}")
        draw(root / "images" / path, code, n + 20 * (part == "train"))
    _write(root / "images.txt", images)
    _write(root / "image_class_labels.txt", labels)
    _write(root / "classes.txt", classes)
    if entry.split:
        _write(root / entry.split, split)
    return entry


def _class_folders(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    for part, folder in entry.folders.items():
        for code, name in enumerate(("Apple leaf", "Corn rust leaf", "grape leaf")):
            for number in range(EACH):
                draw(root / folder / name / f"{part}{number}.jpg", code, number + 20 * (part == "train"))
    return entry


def _awa2(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    names = ["antelope", "grizzly+bear", "zebra", "bat", "cow", "seal"]
    matrix = ["1 0 1", "0 1 1", "1 1 0"]
    for code, name in enumerate(names):  # each class to judge looks like, and has the traits of, one to learn from
        for number in range(EACH):
            draw(root / "JPEGImages" / name / f"{name}_{number}.jpg", code % CLASSES, number + 20 * (code < CLASSES))
    _write(root / "classes.txt", [f"{n + 1}\t{name}" for n, name in enumerate(names)])
    _write(root / "predicates.txt", ["1\tblack", "2\twhite", "3\tfast"])
    _write(root / "predicate-matrix-binary.txt", matrix * 2)
    _write(root / "trainclasses.txt", names[:CLASSES])
    _write(root / "testclasses.txt", names[CLASSES:])
    return entry


def _path_lists(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    names = ["Golden-Delicious", "Granny-Smith", "Pink-Lady"]
    _write(
        root / str(entry.names),
        ["Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)"]
        + [f"{name},{code},Apple,0" for code, name in enumerate(names)],
    )
    for part, file in entry.lists.items():
        lines = []
        for code, name in enumerate(names):
            for number in range(EACH):
                path = f"{part}/Fruit/Apple/{name}/{name}_{number:03}.jpg"
                lines.append(f"{path}, {code}, 0")
                draw(root / path, code, number + 20 * (part == "train"))
        _write(root / file, lines)
    return entry


def _newt(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    lines = ["id,task,task_cluster,label,split"]
    for task in range(2):
        for part in ("train", "test"):
            for label in range(2):
                for number in range(EACH):
                    key = f"{task}-{part}-{label}-{number}"
                    lines.append(f"{key},task{task},species,{label},{part}")
                    draw(root / "newt2021_images" / f"{key}.jpg", task + label, number + 20 * (part == "train"))
    _write(root / "newt2021_labels.csv", lines)
    return entry


def _fishnet(entry: Benchmark, root: Path, draw: Draw) -> Benchmark:
    for part in ("train", "test"):
        lines = [f",image,Folder,{','.join(entry.traits)}"]
        for code in range(CLASSES):
            for number in range(EACH):
                image = f"{part}{code}_{number}.jpg"
                where = image if number % 2 else f"https://fish.example/{image}"
                habit = "pelagic" if code == 0 else "benthic"
                lines.append(f"{number},{where},Sparidae,{habit},{','.join(str(int(n == code)) for n in range(8))}")
                draw(root / "Image_Library" / "Sparidae" / image, code, number + 20 * (part == "train"))
        lines.append("99,nowhere.jpg,Sparidae,,1,1,1,1,1,1,1,1")  # without one of the traits: left out
        _write(root / f"{part}.csv", lines)
    return entry


MAKERS: dict[str, Callable[[Benchmark, Path, Draw], Benchmark]] = {
    "published rows": _published,
    "image lists": _image_lists,
    "class folders": _class_folders,
    "path lists": _path_lists,
    "awa2": _awa2,
    "newt": _newt,
    "fishnet": _fishnet,
}


def model_that_knows(texts: Sequence[str], to: Path) -> Path:
    """The tiny OpenCLIP model, its image projection such that an image of colour i has the features of text i."""
    import torch
    from safetensors.numpy import load_file, save_file

    from birder.naming.text_embeddings import encode_labels
    from birder.weights.clip import load_clip

    clip = load_clip(CLIP)
    plain = [clip.transform(Image.new("RGB", (32, 32), colour)) for colour in COLOURS[: len(texts)]]
    with torch.inference_mode():
        embeddings = clip.visual.embedding(torch.stack(plain)).numpy().astype(np.float64)
    wanted = encode_labels(clip, list(texts)).T.astype(np.float64)
    shutil.copytree(CLIP, to)
    state = load_file(to / "open_clip_model.safetensors")
    projection = np.linalg.pinv(embeddings) @ wanted
    assert state["visual.proj"].shape == projection.shape
    state["visual.proj"] = projection.astype(np.float32)
    save_file(state, to / "open_clip_model.safetensors")
    return to


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
