"""A model judged by benchmarks end to end: images of known colours, and a CLIP model that knows which text is which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

import birder
from birder.collection import benchmarking
from birder.collection.clip_training import judged_benchmark
from birder.errors import CollectionError, ConfigError, NoTextEncoderError, UnknownNameError
from birder.evaluation import benchmark_folder, binary_tasks, trait_probe
from birder.evaluation import benchmarks as benchmarks_module
from birder.evaluation.benchmark_folder import read_benchmark
from birder.evaluation.benchmarks import Benchmark, benchmark, benchmarks
from birder.evaluation.trait_probe import macro_f1_of_traits
from birder.learning.clip_judge import ClipJudge
from birder.learning.clip_model import start_of
from birder.learning.parallel import Parallel
from tests.evaluation import made_benchmarks
from tests.evaluation.made_benchmarks import CLASSES, CLIP, EACH, draw, make, model_that_knows

MISTAKEN = 2
"""The numbers of images to judge that have the colours of another class: the right share is known, and not 1."""
FAST = ("idle-oo/desert-lion", "cub200", "newt", "awa2")
NAMES = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in benchmarks()]


class Mistaken:
    """Draws some of the images to judge with the colours of another class, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, path: Path, code: int, number: int) -> None:
        mistaken = number < MISTAKEN
        self.count += mistaken
        draw(path, (code + 1) % CLASSES if mistaken else code, number)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Benchmarks of few rows, searches of few steps, and a cache of their own."""
    monkeypatch.setattr(benchmark_folder, "published_rows", made_benchmarks.small_rows)
    monkeypatch.setattr(binary_tasks, "SEARCHES", 4)
    monkeypatch.setattr(trait_probe, "EPOCHS", 3)
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "cache"))


def ask(entry: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small entry stand for the benchmark of its name."""
    monkeypatch.setattr(benchmarking, "benchmark", lambda name: entry)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("prepared")
def test_benchmark_runs_from_end_to_end_with_the_known_right_share(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    species = benchmark(name).task == "classes"
    mistaken = Mistaken()
    entry = make(name, root, mistaken if species else draw)
    ask(entry, monkeypatch)
    folder = read_benchmark(entry, root)
    texts = folder.texts if species else ("one", "two", "three")
    model = model_that_knows(texts, tmp_path / "clip")
    found = birder.evaluate_benchmark(name, root, model, device="cpu", progress=None)
    assert set(found.results["protocols"]) == set(entry.protocols)
    assert found.results["benchmark"]["complete"] and found.results["benchmark"]["images"] == len(folder)
    assert found.results["transform"]["simple_crop"] and not found.results["transform"]["draft"]
    assert found.results["engine"].endswith("fp32")
    assert not list((tmp_path / "cache" / "benchmarks").iterdir())  # what was embedded is gone
    for each in found.metrics.values():
        assert each["low"] is None or each["low"] <= each["estimate"] <= each["high"]
    metrics = {key: each["estimate"] for key, each in found.metrics.items()}
    if species:
        assert mistaken.count
        right = pytest.approx(1 - mistaken.count / (CLASSES * EACH))
        assert metrics["zero-shot.top1"] == right and metrics["top1"] == right
        assert found.predictions.num_rows == CLASSES * EACH
        assert all(metrics[key] == right for key in ("linear.top1", "knn.top1_k1") if key in metrics)
        if "few-shot" in entry.protocols:
            assert found.results["protocols"]["few-shot"]["projected"]
    elif name == "newt":
        assert metrics["svm.accuracy"] == metrics["svm.mean_over_tasks"] == 1
    else:
        assert found.results["protocols"]["traits"]["metrics"]["all_traits"]["n"] == CLASSES * EACH
    page = found.save(tmp_path / "report").read_text("utf-8")
    assert entry.title in page
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["benchmark"]["name"] == name


@pytest.mark.slow
@pytest.mark.usefixtures("prepared")
def test_a_run_is_resumed_in_its_collection_and_broken_images_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, root, kept = "idle-oo/orinoquia", tmp_path / "data", tmp_path / "kept.birder"
    entry = make(name, root)
    ask(entry, monkeypatch)
    folder = read_benchmark(entry, root)
    model = model_that_knows(folder.texts, tmp_path / "imageomics")
    monkeypatch.setattr(benchmarking, "published_model", lambda _: "BioCLIP")
    values = [replace(each, benchmark=name) for each in benchmarking_values("idle-oo", "BioCLIP")]
    monkeypatch.setattr("birder.evaluation.published_values.published_values", lambda: values)
    asked: dict[str, Any] = {"collection": kept, "device": "cpu", "progress": None}

    def interrupted(stage: str, done: float) -> None:
        if stage == "embedding" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        birder.evaluate_benchmark(name, root, model, **asked | {"progress": interrupted})
    assert len(birder.open_collection(kept)) == len(folder)
    monkeypatch.setattr("birder.collection.model.EncoderSpec.load", None)  # nothing is left to embed
    found = birder.evaluate_benchmark(name, root, **asked)
    assert found.results["protocols"]["zero-shot"]["metrics"]["top1"]["estimate"] == 1
    (row,) = found.results["published"]
    assert (row["percent"], row["here"], row["inside"]) == (31.7, 100.0, False)
    again = birder.evaluate_benchmark(name, root, **asked, as_="bioclip-v1", protocols=["few-shot"])
    assert list(again.results["protocols"]) == ["few-shot"] and again.predictions.num_rows == 0
    assert again.results["protocols"]["few-shot"]["as"] == "bioclip-v1"
    monkeypatch.undo()
    monkeypatch.setattr(benchmark_folder, "published_rows", made_benchmarks.small_rows)
    monkeypatch.setattr(benchmarking, "published_model", lambda _: "BioCLIP")
    ask(entry, monkeypatch)

    folder.files[0].write_bytes(b"no image")
    found = birder.evaluate_benchmark(name, root, **asked)
    assert found.results["benchmark"]["failed"][0][0] == str(folder.files[0].relative_to(root))
    assert not found.results["benchmark"]["complete"] and found.results["n"] == len(folder) - 1
    assert any(note.startswith("Incomplete: 1 of 30 images") for note in found.results["notes"])
    assert all(each["here"] is None for each in found.results["published"])


def benchmarking_values(name: str, model: str) -> list[Any]:
    from birder.evaluation.benchmarks import published_values

    return [value for value in published_values() if (value.benchmark, value.model) == (name, model)]


@pytest.mark.slow
@pytest.mark.usefixtures("prepared")
def test_a_clip_in_training_is_judged_by_a_benchmark_and_copes_with_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = make("cub200", tmp_path / "data", Mistaken())
    monkeypatch.setattr(benchmarks_module, "benchmark", lambda name: entry)
    folder = read_benchmark(entry, tmp_path / "data")
    start = start_of(None, model_that_knows(folder.texts, tmp_path / "clip"))
    judged = judged_benchmark("cub200", tmp_path / "data")
    judge = ClipJudge(start, (), "sci", 8, judged, Parallel(0, 1, 1, torch.device("cpu")))
    found = judge(start.clip.eval())["zero_shot"]
    assert (found["images_of"], found["n"]) == ("cub200", CLASSES * EACH)
    assert found["top1"] == pytest.approx(1 - MISTAKEN / EACH)
    next(f for f, part in zip(folder.files, folder.parts, strict=True) if part == "test").write_bytes(b"no image")
    assert judge(start.clip.eval())["zero_shot"]["n"] == CLASSES * EACH - 1


@pytest.mark.usefixtures("prepared")
def test_what_cannot_be_judged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    ask(make("idle-oo/island", root), monkeypatch)
    with pytest.raises(UnknownNameError, match="Known: few-shot, knn, linear, zero-shot"):
        birder.evaluate_benchmark("idle-oo/island", root, protocols=["traits"])
    with pytest.raises(UnknownNameError, match="few-shot protocol 'v3'"):
        birder.evaluate_benchmark("idle-oo/island", root, as_="v3")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Say which model"):
        birder.evaluate_benchmark("idle-oo/island", root, progress=None)
    with pytest.raises(NoTextEncoderError, match="efficientnet_lite0_in1k has no text encoder"):
        birder.evaluate_benchmark("idle-oo/island", root, "efficientnet_lite0_in1k", protocols=["zero-shot"])
    birder.embed(root, tmp_path / "squashed.birder", str(CLIP), engine="torch", progress=None)
    with pytest.raises(CollectionError, match="not embedded as benchmarks are"):
        birder.evaluate_benchmark("idle-oo/island", root, collection=tmp_path / "squashed.birder", progress=None)


def test_f1_of_traits_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    true, answers = random.random((40, 5)) > 0.5, random.random((3, 40, 5)) > 0.4
    true[:, 4] = answers[:, :, 4] = False
    expected = np.mean([f1_score(true, told, average="macro", zero_division=0.0) for told in answers])
    assert macro_f1_of_traits(true, answers, np.ones((1, 40), np.float32))[0] == pytest.approx(expected)
    # The labels 0 and 1, as the published script gives them, are the first two columns.
    first = np.mean([f1_score(true, told, average="macro", labels=np.unique(true)) for told in answers])
    assert macro_f1_of_traits(true[:, :2], answers[:, :, :2], np.ones((1, 40), np.float32))[0] == pytest.approx(first)
