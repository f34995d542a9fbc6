"""The collection as users hold it: what it promises, its examples, how it shows itself, and its types."""

from __future__ import annotations

import doctest
import importlib
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import birder
from birder.errors import (
    BirderError,
    CollectionError,
    ConfigError,
    FilterError,
    MissingPackageError,
    UnknownNameError,
)

MODEL = "efficientnet_lite0_in1k"
DOCUMENTED = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_api.py"))["documented_names"]
FINDER = doctest.DocTestFinder(recurse=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder with `photos`, and `photos.birder` made of them, which the examples of docstrings change."""
    folder = tmp_path_factory.mktemp("api")
    shutil.copytree(photos, folder / "photos")
    birder.create_collection(folder / "photos.birder", MODEL).embed(folder / "photos", progress=None)
    shutil.copytree(folder / "photos.birder", folder / "whole" / "photos.birder")
    return folder


@pytest.fixture
def collection(folder: Path, tmp_path: Path) -> birder.Collection:
    """A copy of the collection that a test may change."""
    shutil.copytree(folder / "whole" / "photos.birder", tmp_path / "photos.birder")
    return birder.open_collection(tmp_path / "photos.birder")


@pytest.fixture
def owl(folder: Path) -> Path:
    return folder / "photos" / "birds" / "owl.jpg"


# The examples of the docstrings


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTED(examples=True))
def test_examples_of_docstrings_give_what_they_show(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found: object = birder
    for part in name.split("."):
        found = getattr(found, part)
    (test,) = FINDER.find(found, name, module=False, globs={"birder": birder})
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=report.append).failed == 0, "".join(report)
    assert test.examples


# Making and opening


def test_create_collection_refuses_a_folder_that_holds_one(collection: birder.Collection) -> None:
    with pytest.raises(birder.FileExistsError, match="open_collection") as raised:
        birder.create_collection(collection.path, MODEL)
    assert isinstance(raised.value, FileExistsError)


def test_open_collection_refuses_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(CollectionError):
        birder.open_collection(tmp_path)


def test_a_new_collection_is_empty_and_true(tmp_path: Path) -> None:
    new = birder.create_collection(tmp_path / "new.birder", MODEL)
    assert len(new) == 0
    assert bool(new)
    assert new.model.name == MODEL
    assert repr(new) == f"<Collection {str(tmp_path / 'new.birder')!r}: 0 images, {MODEL}>"
    assert new.to_arrow().num_rows == 0
    assert new._repr_html_()


# What is in it


def test_membership_takes_a_path_uri_or_id(collection: birder.Collection, owl: Path) -> None:
    row = collection.search(where=f"uri = '{owl.as_uri()}'")[0]
    for key in (owl, str(owl), row["uri"], row["id"]):
        assert key in collection
    for key in ("owl", owl.with_name("nowhere.jpg"), "it's", "nul\0", 7, None):
        assert key not in collection


def test_iteration_gives_batches_of_all_columns_without_vectors(collection: birder.Collection) -> None:
    batches = list(collection)
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    assert sum(batch.num_rows for batch in batches) == len(collection) == 129
    assert set(collection.columns) - set(batches[0].schema.names) == {"embedding"}


def test_tables_have_the_columns_and_rows_asked_for(collection: birder.Collection) -> None:
    table = collection.to_arrow(["uri", "embedding"], where="label = 'birds'")
    assert table.column_names == ["uri", "embedding"]
    assert table.num_rows == 27 == collection.count("label = 'birds'") == len(collection.ids("label = 'birds'"))
    assert table["embedding"].type.list_size == collection.model.embedding_size
    with pytest.raises(UnknownNameError, match="Did you mean label"):
        collection.to_arrow(["lable"])
    with pytest.raises(BirderError):
        collection.to_arrow(where="label = ")


def test_embedding_batches_give_a_matrix_beside_the_columns(collection: birder.Collection) -> None:
    (columns, vectors), *_ = collection.embedding_batches(["id", "uri"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (columns.num_rows, collection.model.embedding_size)


def test_rows_become_pandas_and_polars(collection: birder.Collection) -> None:
    pytest.importorskip("polars")
    found = collection.search(ids="owl.jpg", k=3, columns=["label"])
    assert found.to_pandas()["label"].tolist() == found.to_polars()["label"].to_list() == [r["label"] for r in found]
    assert collection.to_polars(["uri"]).shape == (129, 1)
    assert collection.to_pandas(["uri"]).shape == (129, 1)


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}")

import birder
collection = birder.open_collection(sys.argv[2])
sys.meta_path.insert(0, Missing())
for name in [name for name in sys.modules if name.partition(".")[0] == sys.argv[1]]:
    del sys.modules[name]
try:
    getattr(collection, f"to_{sys.argv[1]}")()
except birder.MissingPackageError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_missing_package_is_named(collection: birder.Collection, package: str) -> None:
    command = [sys.executable, "-c", WITHOUT, package, str(collection.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"to_{package}() needs {package}, which is not installed: pip install {package}\n"


def test_failures_are_rows(tmp_path: Path, collection: birder.Collection) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    report = collection.embed(tmp_path / "broken.jpg", progress=None)
    assert [Path(path).name for path, _ in report.failed] == ["broken.jpg"]
    (failure,) = collection.failures()
    assert failure["uri"] == (tmp_path / "broken.jpg").as_uri()
    assert failure["reason"] in collection.failures()._repr_html_()


# Embedding


def test_progress_is_told_from_loading_to_the_end(folder: Path, tmp_path: Path) -> None:
    seen: list[birder.Progress] = []
    new, report = birder.embed(folder / "photos" / "birds", tmp_path / "b.birder", MODEL, progress=seen.append)
    assert [seen[0].stage, seen[0].total, seen[-1].stage] == ["loading", 27, "embedding"]
    assert seen[-1].finished == seen[-1].embedded == report.embedded == len(new) == 27
    assert [step.finished for step in seen] == sorted(step.finished for step in seen)
    assert seen[-1].rate > 0


def test_embed_makes_no_collection_where_there_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no images"):
        birder.embed(tmp_path / "empty", tmp_path / "new.birder", progress=None)
    assert not (tmp_path / "new.birder").exists()


def test_embed_refuses_another_model(collection: birder.Collection, folder: Path) -> None:
    with pytest.raises(birder.WrongModelError):
        birder.embed(folder / "photos", collection.path, "vit_b16_pn_bioclip-v1", progress=None)


def test_embed_shows_nothing_where_there_is_no_terminal(
    collection: birder.Collection, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    collection.embed(folder / "photos" / "birds")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_embed_takes_a_table(collection: birder.Collection, folder: Path) -> None:
    report = collection.embed(folder / "photos", table=folder / "photos" / "photos.csv", progress=None)
    assert report.table is not None
    assert (report.table.matched, report.updated, report.embedded) == (129, 129, 0)
    assert collection.count("\"group\" = 'birds'") == 27


@pytest.mark.slow
def test_closing_iter_embed_keeps_what_is_embedded(folder: Path, tmp_path: Path) -> None:
    new = birder.create_collection(tmp_path / "c.birder", MODEL)
    run = new.iter_embed(folder / "photos", batch_size=8)
    while (step := next(run)).finished < 16:
        pass
    run.close()
    new.refresh()
    assert step.finished <= len(new) < 129
    report = new.embed(folder / "photos", progress=None)
    assert len(new) == report.embedded + report.already == 129
    assert new.failures().to_list() == []


def test_iter_embed_returns_the_report(collection: birder.Collection, folder: Path) -> None:
    run = collection.iter_embed(folder / "photos")
    steps = []
    while True:
        try:
            steps.append(next(run))
        except StopIteration as end:
            report = end.value
            break
    assert (report.already, report.embedded, steps[-1].already) == (129, 0, 129)


def test_errors_of_a_run_reach_who_iterates(collection: birder.Collection, tmp_path: Path) -> None:
    with pytest.raises(BirderError, match=r"nowhere\.jpg"):
        list(collection.iter_embed(tmp_path / "nowhere.jpg"))


def test_stop_ends_a_run_with_a_report(folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    new = birder.create_collection(tmp_path / "c.birder", MODEL)

    def after_some(progress: birder.Progress) -> None:
        if progress.finished:
            stop.set()

    report = new.embed(folder / "photos", batch_size=8, progress=after_some, stop=stop)
    assert report.stopped
    assert 0 < len(new) == report.embedded == 129 - report.left


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["c.embed(photos, batch_size=4)", "list(c.iter_embed(photos, batch_size=4))"])
def test_ctrl_c_loses_no_row(folder: Path, tmp_path: Path, loop: str) -> None:
    path = tmp_path / "c.birder"
    birder.create_collection(path, MODEL)
    many = tmp_path / "many"
    for copy in range(6):
        shutil.copytree(folder / "photos" / "birds", many / str(copy))
    code = f"import birder; photos = {str(many)!r}; c = birder.open_collection({str(path)!r}); {loop}"
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(birder.open_collection(path)) == 0 and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    before = len(birder.open_collection(path))
    assert child.returncode in (0, -signal.SIGINT), err
    report = birder.open_collection(path).embed(many, progress=None)
    assert report.already == before
    assert report.embedded + report.already == 27 * 6


# Searching


def test_search_results_are_a_sequence_that_can_be_cut(collection: birder.Collection) -> None:
    found = collection.search(ids="owl.jpg", k=6, columns=["uri"])
    assert len(found) == 6
    assert found[0] == found.to_list()[0]
    assert found[-1] == found.to_list()[-1]
    assert [row["uri"] for row in found[1:4]] == found.to_arrow()["uri"].to_pylist()[1:4]
    assert isinstance(found[::2], birder.SearchResults)
    assert list(found[::-1]) == found.to_list()[::-1]
    with pytest.raises(IndexError):
        found[6]
    similarities = [row["similarity"] for row in found]
    assert similarities == sorted(similarities, reverse=True)


def test_search_takes_one_or_many_of_each(collection: birder.Collection, owl: Path) -> None:
    by_image = collection.search(images=owl, k=4)
    assert [row["uri"] for row in by_image] == [row["uri"] for row in collection.search(images=[str(owl)], k=4)]
    by_row = collection.search(ids="owl.jpg", k=4)
    assert [row["uri"] for row in by_row] == [row["uri"] for row in by_image]
    vector = collection.to_arrow(["embedding"], where=f"uri = '{owl.as_uri()}'")["embedding"][0].values.to_numpy()
    (itself,) = collection.search(vectors=[vector], k=1)
    assert itself["uri"] == owl.as_uri()
    assert owl.as_uri() not in [row["uri"] for row in collection.search(vectors=[vector], unlike="frog.jpg", k=129)][1:]


def test_search_by_words_needs_a_text_encoder_or_class_names(collection: birder.Collection) -> None:
    with pytest.raises(BirderError, match="no class of|No class of .* is called 'xylophonist of doom'"):
        collection.search(texts="xylophonist of doom")
    with pytest.raises(BirderError, match="text encoder"):
        collection.search(texts="an owl", model="efficientnet_lite0_in1k")


def test_a_search_without_a_query_is_refused(collection: birder.Collection) -> None:
    with pytest.raises(ConfigError):
        collection.search()


def test_search_results_show_themselves_as_images(collection: birder.Collection, owl: Path) -> None:
    shown = collection.search(images=owl, k=3)._repr_html_()
    assert shown.count('src="data:image/jpeg;base64,') == 3
    assert "owl.jpg" in shown
    assert len(shown) < 60_000


def test_html_is_escaped_and_bounded(collection: birder.Collection) -> None:
    bad = "<script>alert(1)</script>"
    collection.label(collection.ids(), bad)
    found = collection.search(ids="owl.jpg", k=128)
    for shown in (found._repr_html_(), collection._repr_html_(), collection.search(where="true", k=3)._repr_html_()):
        assert "<script" not in shown
        assert "&lt;script" in shown
    assert found._repr_html_().count("<img") == 24
    assert "24 of 128 images are shown" in found._repr_html_()


def test_images_that_are_gone_are_shown_as_missing(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "photos" / "fish", tmp_path / "fish")
    new, _ = birder.embed(tmp_path / "fish", tmp_path / "f.birder", MODEL, progress=None)
    shutil.rmtree(tmp_path / "fish")
    shown = new.search(where="true", k=2)._repr_html_()
    assert "<img" not in shown
    assert shown.count("missing: ") == 2


def test_a_page_of_results_holds_its_images(collection: birder.Collection, owl: Path, tmp_path: Path) -> None:
    missing = collection.search(images=owl, k=2).save_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert missing == {}
    assert page.count("data:image/jpeg;base64,") == 3
    assert "2 of 129 images in photos.birder, compared by efficientnet_lite0_in1k" in page


# Labels


def every_way_to_name_rows(collection: birder.Collection, owl: Path) -> list[Any]:
    found = collection.search(where=f"uri = '{owl.as_uri()}'")
    return [
        owl,
        str(owl),
        "owl.jpg",
        [found[0]["id"], found[0]["uri"]],
        found[0],
        found,
        found.to_arrow(),
        found.to_pandas(),
        found.to_polars(),
        collection.ids(f"uri = '{owl.as_uri()}'"),
        iter([owl]),
    ]


def test_label_takes_rows_in_every_form(collection: birder.Collection, owl: Path) -> None:
    for number, rows in enumerate(every_way_to_name_rows(collection, owl)):
        act = collection.label(rows, f"label {number}", author="Ada")
        assert (act.count, act.by) == (1, "Ada")
        assert collection.count(f"label = 'label {number}'") == 1
    assert collection.history().total == number + 1


def test_label_refuses_rows_that_are_not_there(collection: birder.Collection) -> None:
    with pytest.raises(CollectionError, match="no row 'unicorn.jpg'"):
        collection.label(["owl.jpg", "unicorn.jpg"], "owl")
    with pytest.raises(ConfigError, match="id or uri"):
        collection.label(pa.table({"label": ["x"]}), "owl")
    assert collection.history().total == 0


def test_undo_takes_an_act_its_id_or_the_last(collection: birder.Collection) -> None:
    first = collection.label("owl.jpg", "one")
    second = collection.label("owl.jpg", "two")
    assert collection.undo().act == second.act
    assert collection.count("label = 'one'") == 1
    assert collection.undo(first).restored == 1
    third = collection.label("owl.jpg", None)
    assert collection.count("label IS NULL") == 1
    assert collection.undo(third.act).restored == 1
    assert collection.count("label = 'birds'") == 27
    with pytest.raises(CollectionError):
        collection.undo()


def test_labels_are_seen_by_others_at_once(collection: birder.Collection) -> None:
    other = birder.open_collection(collection.path)
    collection.label("owl.jpg", "owl")
    other.refresh()
    assert other.count("label = 'owl'") == 1


# Names


def test_rows_without_a_label_are_named_by_those_with_one(collection: birder.Collection, owl: Path) -> None:
    collection.label(owl, None)
    found = collection.predict(column="label", k=3)
    assert [row["uri"] for row in found] == [owl.as_uri()] * 3
    assert found.name_column == "label"
    assert found.images == 1
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)


def test_saved_predictions_leave_labels_alone(collection: birder.Collection, folder: Path, tmp_path: Path) -> None:
    plain, _ = birder.embed(folder / "photos" / "birds", tmp_path / "b.birder", MODEL, progress=None)
    before = plain.to_arrow(["uri", "label"])
    found = plain.predict(examples=collection, k=1, save=True)
    assert "predicted_label" in found.saved
    assert plain.count("predicted_label IS NOT NULL") == 27
    assert plain.to_arrow(["uri", "label"]).sort_by("uri") == before.sort_by("uri")
    assert found._repr_html_().count("<img") == 24


def test_predict_names_only_rows_that_match_a_filter(
    collection: birder.Collection, folder: Path, tmp_path: Path
) -> None:
    plain, _ = birder.embed(folder / "photos" / "birds", tmp_path / "b.birder", MODEL, progress=None)
    found = plain.predict(examples=collection.path, where="ends_with(uri, '/owl.jpg')", k=1)
    assert [Path(row["path"]).name for row in found] == ["owl.jpg"]


@pytest.mark.parametrize(
    "options",
    [
        {"column": "label", "labels": ["a", "b"]},
        {"column": "label", "model": "imageomics/bioclip"},
        {"images": "owl.jpg", "column": "label", "save": True},
        {"images": "owl.jpg", "column": "label", "where": "true"},
    ],
    ids=str,
)
def test_options_that_exclude_each_other_are_refused(collection: birder.Collection, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        collection.predict(**options)  # type: ignore[arg-type]


def test_unreadable_images_are_told_and_the_others_named(
    collection: birder.Collection, owl: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    found = collection.predict([owl, tmp_path / "broken.jpg"], column="label", k=1)
    assert [row["label"] for row in found] == ["birds"]
    assert [Path(path).name for path, _ in found.unreadable] == ["broken.jpg"]
    classified = birder.classify([owl, tmp_path / "broken.jpg"], k=1)
    assert [Path(path).name for path, _ in classified.unreadable] == ["broken.jpg"]
    assert len(classified) == classified.images == 1


def test_hold_out_counts_what_its_rows_show(collection: birder.Collection) -> None:
    found = collection.hold_out("label", 0.25, k=1)
    assert found.right == sum(row["is"] == row["label"] for row in found)
    assert found.right <= found.among_five <= found.images == len(found)
    assert found.examples + found.images == 129


# Looking, exporting, keeping


@pytest.mark.slow  # UMAP is imported
def test_map_is_computed_once_and_drawn(collection: birder.Collection, tmp_path: Path) -> None:
    pytest.importorskip("umap")
    assert collection.stored_map() is None
    stages: list[str] = []
    points = collection.map(tmp_path / "map.html", colour="label", progress=lambda stage, done: stages.append(stage))
    assert points.xy.shape == (129, 2)
    assert "layout" in stages
    again = collection.map(tmp_path / "map.png", progress=lambda stage, done: pytest.fail("computed again"))
    assert np.array_equal(again.xy, points.xy)
    assert (tmp_path / "map.png").stat().st_size > 10_000
    with pytest.raises(UnknownNameError):
        collection.map(tmp_path / "no.png", colour="lable")


def test_duplicates_are_groups_and_a_table(collection: birder.Collection, tmp_path: Path) -> None:
    found = collection.duplicates(threshold=0.8)
    assert len(found) == len(set(found.to_arrow()["group"].to_pylist())) > 0
    assert isinstance(found[:1], birder.Duplicates)
    assert "data:image/jpeg" in found._repr_html_()
    assert found.save_page(tmp_path / "d.html") == {}
    assert found.to_arrow().num_rows == sum(len(group.photos) for group in found)


def test_stats_count_what_is_there(collection: birder.Collection, tmp_path: Path) -> None:
    found = collection.stats(to=tmp_path / "counts.png")
    assert (found.rows, found.failures) == (129, 0)
    assert (tmp_path / "counts.png").exists()
    assert sum(each.count for each in collection.value_counts("label")) == 129
    (agreement,) = collection.agreement(["label"])
    assert agreement.n == 129
    with pytest.raises(ConfigError, match="taxon"):
        collection.agreement()


@pytest.mark.parametrize("format", [None, "csv", "parquet", "npz", "folders", "emb-explorer"])
def test_export_writes_every_format(collection: birder.Collection, tmp_path: Path, format: str | None) -> None:
    ending = {None: ".parquet", "folders": "", "emb-explorer": ".parquet"}.get(format, f".{format}")
    to = tmp_path / f"out{ending}"
    report = collection.export(to, format, where="label = 'birds'")  # type: ignore[arg-type]
    assert report.summary.startswith("27 ")
    assert str(report) == report.summary
    assert to.exists()
    assert report.failed == ()


def test_export_replaces_only_when_told_to(collection: birder.Collection, tmp_path: Path) -> None:
    to = tmp_path / "out.csv"
    collection.export(to)
    with pytest.raises(BirderError, match="force"):
        collection.export(to)
    collection.export(to, force=True)
    with pytest.raises(ConfigError, match="does not end in"):
        collection.export(tmp_path / "out.csv", "parquet", force=True)
    with pytest.raises(UnknownNameError):
        collection.export(tmp_path / "out", "excel")  # type: ignore[arg-type]


def test_import_file_brings_an_export_back(collection: birder.Collection, tmp_path: Path) -> None:
    collection.export(tmp_path / "out.parquet")
    report = birder.import_file(tmp_path / "out.parquet", tmp_path / "back.birder")
    assert (report.new, len(report.collection)) == (129, 129)
    assert report.collection.model.sha256 == collection.model.sha256


def test_tidy_and_index_tell_what_they_did(collection: birder.Collection) -> None:
    assert collection.tidy().bytes_before > 0
    assert collection.index_status().rows == 129
    with pytest.raises(CollectionError, match="256"):
        collection.index()


# The package


def test_every_error_of_the_tree_is_public() -> None:
    errors = importlib.import_module("birder.errors")
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, BirderError)
    }
    assert {"BirderError", "FilterError", "NoTextEncoderError", "FileExistsError"} <= classes <= set(birder.__all__)
    assert all(issubclass(getattr(birder, name), birder.BirderError) for name in classes)
    assert issubclass(birder.FilterError, FilterError)
    assert issubclass(birder.MissingPackageError, MissingPackageError)


def test_public_names_are_those_that_the_checker_sees() -> None:
    """What is imported for type checkers and what is found at run time are written down twice."""
    source = Path(birder.__file__).read_text("utf-8")
    names = {"TYPE_CHECKING": True}
    block = source.partition("if TYPE_CHECKING:\n")[2].partition("\n_HOMES")[0]
    exec("if True:\n" + block, names)
    assert {name for name in names if not name.startswith("__") and name != "TYPE_CHECKING"} == set(birder.__all__) - {
        "__version__"
    }


SCRIPT = """
import threading
from pathlib import Path

import birder

collection = birder.create_collection("photos.birder", model="efficientnet_lite0_in1k")
report = collection.embed(["photos", Path("more")], table="photos.csv", retry_failed=True)
print(report.embedded, report.failed[0][1])
for progress in collection.iter_embed("photos", batch_size=8):
    print(progress.finished / progress.total)
found = collection.search(images="owl.jpg", unlike=[Path("fox.jpg"), "a fox"], where="latitude > 50", k=5)
reveal_type(found)
reveal_type(found[0])
reveal_type(found[:2])
reveal_type(collection.label(found[:2], "owl", author="Ada").count)
reveal_type(collection.undo().restored)
reveal_type(collection.predict(column="label", save=True).unreadable)
reveal_type(len(collection))
reveal_type("owl.jpg" in collection)
reveal_type(collection.map("map.html", colour="label").xy.shape)
reveal_type(collection.export("x.parquet", force=True).summary)
try:
    birder.open_collection("nowhere")
except birder.CollectionNotFoundError as error:
    print(error)
except birder.BirderError:
    raise
"""
WRONG = """
import birder

collection = birder.open_collection("photos.birder")
collection.search(image="owl.jpg")
collection.embed(7)
collection.export("x.parquet", "excel")
collection.label("owl.jpg", 3)
birder.no_such_name
"""


@pytest.mark.slow
def test_a_users_script_is_typed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)

    # In the package's folder, whose cache `make lint` has filled: checking all that it imports takes a minute.
    files = [str(tmp_path / name) for name in ("script.py", "wrong.py")]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *files]
    done = subprocess.run(command, cwd=Path(birder.__file__).parents[1], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    kinds = [line.partition('"')[2].rstrip('"') for line in lines if "Revealed" in line]
    assert kinds == [
        "birder.collection.results.SearchResults",
        "dict[str, Any]",
        "birder.collection.results.SearchResults",
        "int",
        "int",
        "tuple[tuple[str, str], ...]",
        "int",
        "bool",
        "tuple[Any, ...]",
        "str",
    ], done.stdout
    errors = [tuple(line.split("error:")[0].rsplit("/", 1)[1].split(":")[:2]) for line in lines if "error:" in line]
    assert errors == [("wrong.py", line) for line in "56789"], done.stdout


# Notebooks and terminals


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """IPython's display as a kernel has it: what is displayed, and what replaces it."""
    outputs: list[str] = []

    class Handle:
        def update(self, shown: str) -> None:
            outputs[-1] = shown

    class Display:
        HTML = staticmethod(lambda text: text)

        @staticmethod
        def display(shown: str, display_id: bool) -> Handle:
            outputs.append(shown)
            return Handle()

    class Shell:
        kernel = object()

    class IPython:
        get_ipython = staticmethod(Shell)
        display = Display

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    monkeypatch.setitem(sys.modules, "IPython.display", Display)
    yield outputs


def test_a_notebook_shows_one_bar(
    collection: birder.Collection, folder: Path, tmp_path: Path, notebook: list[str]
) -> None:
    birder.embed(folder / "photos" / "fish", tmp_path / "f.birder", MODEL)
    assert len(notebook) == 1
    assert notebook[0].startswith('<progress max="1" value="1.0000"></progress> 9 of 9 images')


@pytest.mark.slow
def test_a_terminal_shows_a_bar(folder: Path, tmp_path: Path) -> None:
    script = shutil.which("script")
    if script is None:
        pytest.skip("needs `script`, which gives a child a terminal")
    code = f"import birder; birder.embed({str(folder / 'photos' / 'birds')!r}, {str(tmp_path / 'b.birder')!r})"
    command = f"{sys.executable} -c {code!r}"
    done = subprocess.run([script, "-qec", command, "/dev/null"], capture_output=True, text=True, check=True)
    assert "27 of 27 images" in done.stdout
