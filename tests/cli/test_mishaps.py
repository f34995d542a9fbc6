"""What goes wrong around a command: places that cannot be written, files that are gone, numbers beyond all bounds.

Each ends with a sentence and an exit code, leaves no draft, and shows no traceback. The commands run in this process.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants

from birder import registry
from birder.cli import run
from birder.collection.model import EncoderSpec
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.files import DRAFT_ENDING
from birder.sources.table import TableWarning, read_table
from birder.weights.checkpoint import save_model
from birder.weights.hub import sha256_of
from birder.weights.load import load_model, load_pretrained_model
from tests.cli.running import COMMAND, with_path
from tests.factory import collection_of_images, collection_of_vectors

DATA = Path(__file__).parents[1] / "data"
CHECKPOINT = DATA / "birder" / "vit_tiny_p16_pn_test.safetensors"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Run: TypeAlias = Callable[..., Ended]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection_of_images(tmp_path_factory.mktemp("mishaps")).path


@pytest.fixture
def birder_here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; a traceback would be an exception of the test."""

    def birder_here(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["birder", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run()
        return Ended(int(end.value.code or 0), *capfd.readouterr())

    return birder_here


@contextlib.contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond this: what `OSError` a full one raises, this one does, as another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fetch", "efficientnet_lite0_in1k", "--to", "full/weights.pth"),
        ("export", "COLLECTION", "--to", "full/rows.csv"),
        ("export", "COLLECTION", "--to", "full/rows.parquet"),
        ("export", "COLLECTION", "--to", "full/rows.npz"),
        ("search", "COLLECTION", "--where", "true", "--to", "full/found.html"),
        ("stats", "COLLECTION", "--to", "full/columns.csv"),
    ],
    ids=lambda arguments: Path(arguments[-1]).name,
)
def test_full_disk_is_told_and_leaves_no_draft(
    birder_here: Run, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with no_more_than(500):
        done = birder_here(*(collection if each == "COLLECTION" else each for each in arguments))
    assert done.code == 1 and f"Cannot write {arguments[-1]}" in done.err, done.err
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
    assert DRAFT_ENDING not in done.err


def test_weights_are_fetched_into_a_folder(birder_here: Run, tmp_path: Path) -> None:
    done = birder_here("fetch", "efficientnet_lite0_in1k", "--to", tmp_path)
    (file,) = tmp_path.iterdir()
    assert done.code == 0 and done.out == f"{file}\n" and file.suffix == ".pth"


def test_registered_weights_whose_file_is_gone(
    birder_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = registered(tmp_path, monkeypatch, "path = 'gone.pt'")
    shutil.copy(DATA / "chelsea.png", tmp_path)
    for arguments in (("fetch", gone), ("embed", tmp_path, "--in", tmp_path / "c.birder", "--model", gone)):
        done = birder_here(*arguments)
        assert done.code in (1, 2) and "There is no file" in done.err and "gone.pt" in done.err, done.err


def registered(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> str:
    """A name for weights in a table of the user's own."""
    (folder / "weights.toml").write_text(f"[weights.ours]\nnetwork = 'vit_b16_pn'\n{source}\n", "utf-8")
    monkeypatch.setattr(registry, "_tables", registry._tables.__wrapped__)  # which reads the variable each time
    monkeypatch.setenv("BIRDER_WEIGHTS", str(folder / "weights.toml"))
    return "ours"


def test_cache_that_cannot_be_written_is_named(
    birder_here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, in which no folder can be made")
    monkeypatch.setenv("BIRDER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes((DATA / "chelsea.png").read_bytes())
    shutil.copy(CHECKPOINT, tmp_path / "vit_b16_pn_tiny.safetensors")
    model = registered(
        tmp_path, monkeypatch, f"path = 'vit_b16_pn_tiny.safetensors'\nsha256 = '{sha256_of(CHECKPOINT)}'"
    )
    embed = ("embed", tmp_path / "photos", "--in", tmp_path / "c.birder", "--model", model)
    done = birder_here(*embed, "--engine", "openvino")
    assert done.code == 1 and "BIRDER_CACHE" in done.err and str(tmp_path / "cache") in done.err
    assert birder_here(*embed, "--engine", "torch").code == 0  # which needs no cache


@pytest.mark.parametrize("k", [2**32 - 1, 2**32, 10**20])
def test_more_results_than_there_are_rows(birder_here: Run, collection: Path, k: int) -> None:
    for query in (("--where", "true"), ("--id", "0003 Größe.jpg"), ("--id", "0003 Größe.jpg", "--exact")):
        done = birder_here("search", collection, *query, "-k", k, "--format", "csv")
        assert done.code == 0 and len(done.out.splitlines()) >= 40


def test_ctrl_c_while_birder_is_being_loaded() -> None:
    """Python's own first moments, before it runs a line of ours, cannot be told from a program that has not begun."""
    press = "import signal, sys, typing; import birder.__main__ as main; signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
    press += "signal.signal(signal.SIGALRM, signal.default_int_handler); sys.argv = ['birder', 'models']; main.main()"
    done = subprocess.run([sys.executable, "-c", press], capture_output=True, text=True, env=with_path(None))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "birder: interrupted\n")


def test_host_out_of_reach_is_not_a_missing_file(birder_here: Run, tmp_path: Path) -> None:
    birder_here("embed", "http://127.0.0.1:9/owl.jpg", "--in", tmp_path / "c.birder", "--engine", "torch")
    told = birder_here("failures", tmp_path / "c.birder").out
    assert "does not exist" not in told and "Cannot connect to host 127.0.0.1:9" in told


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_output_in_an_old_encoding(collection: Path, encoding: str) -> None:
    environment = {**with_path(None), "PYTHONIOENCODING": encoding}
    command = [*COMMAND, "search", str(collection), "--where", "label = 'Größe' OR label = 'łoś'"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert ("Größe" if encoding == "latin-1" else r"Gr\xf6\xdfe").encode(encoding) in done.stdout


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_weights_of_a_table_load_in_either_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    shutil.copy(CHECKPOINT.with_suffix(ending), tmp_path)
    ours = registered(tmp_path, monkeypatch, f"path = '{CHECKPOINT.with_suffix(ending).name}'")
    assert load_pretrained_model(ours)[0].network == "vit_b16_pn"


@pytest.mark.parametrize("bias", [True, False])
def test_network_with_another_classifier_can_be_saved_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bias: bool
) -> None:
    ours = registered(tmp_path, monkeypatch, f"path = '{CHECKPOINT}'")
    net, info = load_pretrained_model(ours)
    net.classifier = torch.nn.Linear(net.embedding_size, net.num_classes, bias=bias)
    config = {**(info.custom_config or {}), "head_bias": not bias}  # of the classifier that was there before
    saved = save_model(
        net, tmp_path / "vit_b16_pn_own.safetensors", signature=info.signature, rgb_stats=info.rgb_stats, config=config
    )
    again, _ = load_model("vit_b16_pn", saved)
    assert again.state_dict().keys() == net.state_dict().keys()


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_tables_as_spreadsheets_and_gbif_write_them(tmp_path: Path, separator: str, encoding: str) -> None:
    number = "52,5" if separator == ";" else "52.5"
    lines = [["file", "decimalLatitude", "eventDate", "Ort"], ["owl.jpg", number, "2024-05-01", "Köln"]]
    table = tmp_path / "table.csv"
    table.write_bytes("\n".join(separator.join(line) for line in lines).encode(encoding))
    with contextlib.nullcontext() if encoding == "utf-8" else pytest.warns(TableWarning, match="Windows-1252"):
        read = read_table(table)
    assert read.names == ["owl.jpg"]
    told = [{"latitude": 52.5, "taken_at": datetime(2024, 5, 1), "Ort": "Köln"}]
    assert read.columns.select(["latitude", "taken_at", "Ort"]).to_pylist() == told
    table.write_bytes(separator.join(lines[0]).encode() + b"\nowl.jpg" + separator.encode() + b"1")
    with pytest.raises(ConfigError, match="2 values for 4 columns, which (commas|semicolons|tabs) separate"):
        read_table(table)


GBIF = """file_name,scientificName,taxonRank,kingdom,genus,specificEpithet,vernacularName,eventDate
1.jpg,"Parus major Linnaeus, 1758",SPECIES,Animalia,Parus,major,Great Tit,2024-05-01
2.jpg,"Larus michahellis (de Vries, 1950)",,Animalia,,,,2024-05-02
3.jpg,"Corvidae Leach, 1820",FAMILY,Animalia,,,,
4.jpg,Quercus robur subsp. robur L.,SUBSPECIES,Plantae,,,,
5.jpg,Parus sp.,,,,,,
6.jpg,Pica,,Animalia,Pica,pica,,
7.jpg,Quercus \u00d7 rosacea,,,,,,
8.jpg,,,Fungi,,,,
"""


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_names_as_darwin_core_has_them(tmp_path: Path, ending: str) -> None:
    table = tmp_path / "occurrence.csv"
    table.write_text(GBIF, "utf-8")
    if ending == "parquet":
        nulls = pa.csv.ConvertOptions(strings_can_be_null=True)
        pq.write_table(pa.csv.read_csv(table, convert_options=nulls), table.with_suffix(".parquet"))
    read = read_table(table.with_suffix(f".{ending}")).columns
    names = ["kingdom", "family", "genus", "species", "common_name", "scientificName"]
    assert [tuple(row.values()) for row in read.select(names).to_pylist()] == [
        ("Animalia", None, "Parus", "Parus major", "Great Tit", None),
        ("Animalia", None, "Larus", "Larus michahellis", None, None),
        ("Animalia", "Corvidae", None, None, None, None),
        ("Plantae", None, "Quercus", "Quercus robur", None, "Quercus robur subsp. robur L."),
        (None, None, None, None, None, "Parus sp."),
        ("Animalia", None, "Pica", "Pica pica", None, None),
        (None, None, None, None, None, "Quercus \u00d7 rosacea"),
        ("Fungi", None, None, None, None, None),
    ]
    assert "vernacularName" not in read.schema.names and ("taken_at" in read.schema.names) == (ending == "csv")
    interval = "file,scientificName,eventDate,taxonRank\n1.jpg,Pica pica,2024-05-01/2024-05-03,species\n"
    table.write_text(interval, "utf-8")
    columns = read_table(table).columns
    assert columns.select(["species", "eventDate"]).to_pylist() == [
        {"species": "Pica pica", "eventDate": "2024-05-01/2024-05-03"}
    ]
    assert "scientificName" not in columns.schema.names


def test_flags_take_no_value_in_help(birder_here: Run) -> None:
    done = birder_here("search", "--help")
    assert "--exact" in done.out and "<bool>" not in done.out


def test_import_lists_a_few_of_very_many_columns(birder_here: Run, tmp_path: Path) -> None:
    names = [f"feature_{number}_mean" for number in range(1280)]
    pq.write_table(pa.table({name: [0.5] for name in names}), tmp_path / "wide.parquet")
    for more in ((), ("--embedding", "zzz")):
        done = birder_here("import", tmp_path / "c.birder", tmp_path / "wide.parquet", "--model", "m", *more)
        assert done.code == 2 and "more" in done.err and len(done.err) < 1500, done.err


def test_what_would_fail_at_the_end_fails_before_the_model_is_loaded(
    birder_here: Run, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    shutil.copy(DATA / "chelsea.png", tmp_path / "cat.png")
    loaded: list[str] = []
    monkeypatch.setattr(EncoderSpec, "load", lambda spec, *_: loaded.append(spec.model))
    nowhere = birder_here("embed", tmp_path / "cat.png", "--in", tmp_path / "file" / "c.birder")
    assert nowhere.code == 1 and "Cannot write" in nowhere.err and "Not a directory" in nowhere.err
    with Storage.open(collection).running():
        busy = birder_here("embed", tmp_path / "cat.png", "--in", collection, "--model", CHECKPOINT)
    assert busy.code in (1, 2) and loaded == [], busy.err
    told = birder_here("predict", tmp_path / "cat.png", "--labels", "a,b", "--to", tmp_path / "file" / "names.csv")
    assert told.code == 1 and "Not a directory" in told.err


def test_hub_out_of_reach_is_said_at_once(birder_here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.monotonic()
    done = birder_here("fetch", "vit_b16_pn_bioclip-v1")
    assert done.code == 1 and done.err.startswith("birder: Cannot fetch "), done.err
    assert time.monotonic() - begun < 5 and "thrown while requesting" not in done.err


@pytest.mark.slow
def test_an_address_without_a_ray_is_reported_and_ray_is_given_the_token_of_the_user(tmp_path: Path) -> None:
    """`ray start` has locked the cluster with it; given an address, Ray's client leaves it out."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
    lines = "import os; from birder.errors import ConfigError; from birder.pipeline.cluster import running_ray\n"
    lines += "try:\n    running_ray('127.0.0.1:1').__enter__()\nexcept ConfigError as error: print(error)\n"
    lines += "print(os.environ.get('RAY_AUTH_MODE'))"
    plain = {name: value for name, value in with_path(None).items() if not name.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, capture_output=True, text=True, env={**plain, "HOME": str(tmp_path)})
    assert done.stdout.startswith("No Ray at 127.0.0.1:1: ") and "ray start --head" in done.stdout
    assert done.stdout.endswith("\ntoken\n"), done.stderr


def test_a_filter_takes_the_path_that_is_shown(birder_here: Run, tmp_path: Path) -> None:
    name = "fotos/%C3%B6wl%201.jpg#xywh=percent:10,10,50,50"
    made = collection_of_vectors(tmp_path / "c.birder", np.ones((2, 4)), names=[name, "fotos/owl.jpg"])
    found = birder_here("search", made.path, "--where", "path LIKE '%öwl%'", "--format", "json")
    (row,) = json.loads(found.out)
    assert row["path"] == "/fotos/öwl 1.jpg#xywh=percent:10,10,50,50" and row["uri"] == f"file:///{name}"
    again = birder_here("search", made.path, "--where", f"path = '{row['path']}'")
    assert again.out.split()[:2] == ["path", "/fotos/öwl"]
    hinted = birder_here("search", made.path, "--where", "file LIKE '%owl%'")
    assert hinted.code == 2 and "in the column 'path'" in hinted.err
    alike = birder_here("duplicates", made.path, "--format", "json")
    assert [each["path"] for each in json.loads(alike.out)] == [row["path"], "/fotos/owl.jpg"]
