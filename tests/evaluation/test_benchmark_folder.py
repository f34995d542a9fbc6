"""Benchmarks' folders: every layout is read in its order, and a folder that is not whole is refused and says why."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from birder.errors import BenchmarkFolderError, UnknownNameError
from birder.evaluation import benchmark_folder
from birder.evaluation.benchmark_folder import BenchmarkFolder, read_benchmark
from birder.evaluation.benchmark_protocols import protocols_of
from birder.evaluation.benchmark_rows import published_rows, taxon_com
from birder.evaluation.benchmarks import Benchmark, benchmark, benchmarks, published_values
from tests.evaluation import made_benchmarks
from tests.evaluation.made_benchmarks import CLASSES, EACH, make, touch

PUBLISHED = [name for name, each in benchmarks().items() if each.layout == "published rows"]


def read(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Benchmark, BenchmarkFolder]:
    entry = make(name, root, touch)
    monkeypatch.setattr(benchmark_folder, "published_rows", made_benchmarks.small_rows)
    return entry, read_benchmark(entry, root)


@pytest.mark.parametrize("name", benchmarks())
def test_every_benchmark_is_read_and_refused_without_one_image(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, folder = read(name, tmp_path, monkeypatch)
    judged = np.array([part == "test" for part in folder.parts])
    assert len(set(folder.files)) == len(folder.files) and all(file.is_file() for file in folder.files)
    assert (~judged).any() == (entry.task != "classes" or "one-shot" in protocols_of(entry))
    if entry.task == "traits":
        assert folder.traits is not None
        assert folder.traits.shape == (len(folder), len(folder.trait_names))
        assert folder.traits[judged].sum() == folder.traits[~judged].sum() > 0
    elif entry.task == "binary tasks":
        assert folder.tasks is not None
        assert Counter(folder.tasks) == {"task0": 4 * EACH, "task1": 4 * EACH}
        assert folder.texts == ("0", "1")
    else:
        assert len(folder.texts) == CLASSES and (np.bincount(folder.codes[judged]) == EACH).all()
        for file, code in zip(folder.files, folder.codes, strict=True):
            if entry.layout in ("class folders", "path lists"):
                assert file.parent.name.replace("-", " ") == folder.texts[code]
    assert set(entry.protocols) <= set(protocols_of(entry))

    gone = folder.files[int(np.flatnonzero(judged)[0])]
    gone.unlink()
    if name == "plantdoc":
        return  # its number of images is not known: see below
    with pytest.raises(BenchmarkFolderError) as refused:
        read_benchmark(entry, tmp_path)
    told = str(refused.value)
    assert entry.get in told and entry.page in told and entry.name in told
    if entry.layout == "class folders":
        assert f"{len(folder) - 1} images, not {len(folder)}" in told or f"{CLASSES * EACH - 1} images" in told
    else:
        assert f"1 of {len(folder)} images are missing" in told and gone.name in told


def test_plantdoc_whose_number_of_images_is_not_known_is_still_refused_without_one_to_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, _ = read("plantdoc", tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(BenchmarkFolderError, match="no folder"):
        read_benchmark(entry, tmp_path)
    for name in ("a", "b"):
        (tmp_path / "test" / name).mkdir(parents=True)
    with pytest.raises(BenchmarkFolderError, match="no image to judge"):
        read_benchmark(entry, tmp_path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_are_as_many_as_the_entry_says(name: str) -> None:
    entry = benchmark(name)
    rows = published_rows(name, entry.text_type)
    assert {"test": len(rows)} == entry.rows
    assert len({row.text for row in rows}) == entry.classes
    assert len({Path(row.path).name for row in rows}) == len(rows)  # so that a name finds its image


def test_texts_of_taxa_are_written_as_published() -> None:
    first = published_rows("rare-species", "taxon_com")[0]
    assert first.text == (
        "Animalia Mollusca Bivalvia Unionida Unionidae Cyclonaias tuberculata with common name purple wartyback"
    )
    ranks = ("kingdom", "phylum", "cls", "order", "family", "genus", "species", "common_name")
    bird = dict.fromkeys(ranks, "") | {"kingdom": "animalia", "phylum": "chordata", "cls": "aves"}
    assert taxon_com(bird | {"common_name": "bird"}) == "Animalia Chordata Aves     with common name bird"
    owl = dict.fromkeys(ranks, "") | {"genus": "BUBO", "species": "Bubo"}
    assert taxon_com(owl) == "Bubo bubo"
    assert published_rows("meta-album/PLK_Mini", "asis")[0].text == "Emiliania_huxleyi"


def test_images_are_found_by_their_names_wherever_they_are_and_two_of_a_name_are_not_guessed_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, folder = read("rare-species", tmp_path, monkeypatch)
    order = [file.name for file in folder.files]
    for number, file in enumerate(folder.files):
        to = tmp_path / "dataset" / str(number % 4) / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        file.rename(to)
    assert [file.name for file in read_benchmark(entry, tmp_path).files] == order
    touch(tmp_path / "elsewhere" / order[3], 0, 0)
    with pytest.raises(BenchmarkFolderError, match=order[3]):
        read_benchmark(entry, tmp_path)


@pytest.mark.parametrize("way", ["../out.jpg", "/etc/out.jpg"])
def test_a_list_does_not_lead_out_of_the_folder(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "grocery"
    entry, _ = read("grocery", root, monkeypatch)
    touch(tmp_path / "out.jpg", 0, 0)
    lines = (root / "test.txt").read_text().splitlines()
    (root / "test.txt").write_text("\n".join([f"{way}, 0, 0", *lines[1:]]))
    with pytest.raises(BenchmarkFolderError, match="1 of 60 images are missing"):
        read_benchmark(entry, root)


def test_lists_that_differ_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry, folder = read("nabirds", tmp_path, monkeypatch)
    assert [file.name for file in folder.files] == sorted(file.name for file in folder.files) or entry.sha256 is None
    with pytest.raises(BenchmarkFolderError, match="other images or classes than the published"):
        read_benchmark(replace(entry, sha256="0" * 64), tmp_path)
    labels = (tmp_path / "image_class_labels.txt").read_text().splitlines()
    (tmp_path / "image_class_labels.txt").write_text("\n".join(labels[1:]))
    with pytest.raises(BenchmarkFolderError, match="do not say the class of image k0"):
        read_benchmark(entry, tmp_path)
    with pytest.raises(BenchmarkFolderError, match=r"30 images to judge, not 48,562; 3 classes, not 555"):
        (tmp_path / "image_class_labels.txt").write_text("\n".join(labels))
        read_benchmark(benchmark("nabirds"), tmp_path)


def test_what_is_wrong_with_a_table_or_list_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fishnet, _ = read("fishnet", tmp_path / "f", monkeypatch)
    with (tmp_path / "f" / "test.csv").open() as file:
        rows = list(csv.reader(file))
    (tmp_path / "f" / "test.csv").write_text("\n".join(",".join(row[:-1]) for row in rows))
    with pytest.raises(BenchmarkFolderError, match="no column brackish"):
        read_benchmark(fishnet, tmp_path / "f")
    grocery, _ = read("grocery", tmp_path / "g", monkeypatch)
    (tmp_path / "g" / "train.txt").unlink()
    with pytest.raises(BenchmarkFolderError, match=r"train\.txt.*dataset"):
        read_benchmark(grocery, tmp_path / "g")
    with pytest.raises(BenchmarkFolderError, match="There is no folder"):
        read_benchmark(grocery, tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match="rare-species"):
        benchmark("rare-specie")


def test_published_values_name_known_benchmarks() -> None:
    known = {*benchmarks(), *(each.group for each in benchmarks().values()), "mean", "herbarium19"}
    assert {value.benchmark for value in published_values()} <= known
    assert all(0 < value.percent < 100 and value.source for value in published_values())
    rare = {
        value.percent for value in published_values() if (value.model, value.benchmark) == ("BioCLIP", "rare-species")
    }
    assert {37.8, 38.09, 44.9, 65.7, 37.1} == rare
