"""How commands end and what they write to whom: exit codes, pipes, terminals, Ctrl-C; the same for all commands."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from birder.cli import app
from tests.cli.running import COMMAND, Session, shared_session, with_path

pytestmark = pytest.mark.slow  # every test runs whole commands

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
DATA = Path(__file__).parents[1] / "data"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])[;\d]*m")
MODEL = "vit_b16_pn_tiny.pt"
NOT_UTF8 = b"caf\xe9 \xff.jpg"
"""A name in Latin-1, as old disks have them."""
PRINT_ROWS = {
    "failures": ["failures", "c.birder"],
    "duplicates": ["duplicates", "c.birder", "--threshold", "0.1"],
    "stats": ["stats", "c.birder"],
    "stats --column": ["stats", "c.birder", "--column", "label"],
    "index --status": ["index", "c.birder", "--status"],
    "models": ["models"],
    "info": ["info", MODEL],
}
PRINT_ROWS_AFTER_A_NETWORK_RAN = {
    "search": ["search", "c.birder", "--id", "0.jpg"],
    "similar": ["similar", "owl.jpg", "--in", "c.birder", "--device", "cpu"],
    "classify": ["classify", "owl.jpg"],
    "predict --like": ["predict", "owl.jpg", "--like", "c.birder"],
}
ON_A_COLLECTION = {
    "evaluate": ["--column", "label", "--protocol", "knn"],
    "adapt": ["--column", "label", "--to", "cats.safetensors"],
    "compare": ["c.birder"],
    "failures": [],
    "search": ["--where", "true"],
    "duplicates": [],
    "stats": [],
    "index": [],
    "tidy": [],
    "map": [],
    "serve": [],
    "export": ["--to", "e.csv"],
    "label": ["--where", "true", "--set", "label=owl"],
    "undo": [],
    "backup": ["b.birder"],
    "relocate": ["--from", "a", "--to", "b"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, one of them with a name that is not UTF-8 and one broken, and their collection."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", home / MODEL)
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    source.save(home / "owl.jpg")
    for number, label in enumerate(["cats", "dogs", "cats"]):
        (home / "photos" / label).mkdir(parents=True, exist_ok=True)
        source.crop((20 * number, 0, 20 * number + 200, 200)).save(home / "photos" / label / f"{number}.jpg")
    (home / "broken.jpg").write_text("no image")
    shutil.copy(home / "broken.jpg", home / "photos" / os.fsdecode(NOT_UTF8))
    model = ("--model", MODEL, "--engine", "torch", "--precision", "fp32")
    shared_session().at(home).run("embed", "photos", "--in", "c.birder", *model, code=1)
    return home


@pytest.fixture(autouse=True)
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def session(home: Path) -> Session:
    return shared_session().at(home)


@pytest.fixture(scope="module")
def terminal_session(home: Path) -> Iterator[Session]:
    """An interpreter whose terminals know colours and their own width."""
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    session = Session(cwd=home, env=plain | {"TERM": "xterm-256color"})
    yield session
    session.close()


@pytest.fixture(scope="module")
def session_in(home: Path) -> Iterator[Callable[[str], Session]]:
    """Interpreters in these locales."""
    sessions: dict[str, Session] = {}

    def session_in(locale: str) -> Session:
        if locale not in sessions:
            sessions[locale] = Session(cwd=home, env=dict(os.environ) | {"LC_ALL": locale})
        return sessions[locale]

    yield session_in
    for session in sessions.values():
        session.close()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_for_a_pipe_has_no_colours(session: Session, command: str) -> None:
    assert "\x1b" not in session.run(command, "--help").stdout


@pytest.mark.parametrize("arguments", PRINT_ROWS_AFTER_A_NETWORK_RAN.values(), ids=list(PRINT_ROWS_AFTER_A_NETWORK_RAN))
def test_rows_for_a_pipe_have_no_colours(session: Session, arguments: list[str]) -> None:
    done = session.run(*arguments)
    assert "\x1b" not in done.stdout + done.stderr
    csv_rows = list(csv.DictReader(io.StringIO(session.run(*arguments, "--format", "csv").stdout)))
    assert len(done.stdout.splitlines()) == len(csv_rows) + 1


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_fits_a_narrow_terminal(terminal_session: Session, command: str) -> None:
    lines = plain(terminal_session.run_on_a_terminal(command, "--help", columns=40)).splitlines()
    assert max(map(len, lines)) <= 40
    together = "".join("".join(lines).split())
    long = [name for each in COMMANDS[command].params for name in each.opts if name.startswith("--")]
    assert [name for name in long if name not in together] == []


@pytest.mark.parametrize("arguments", PRINT_ROWS.values(), ids=list(PRINT_ROWS))
class TestRows:
    def test_rows_for_a_pipe_have_no_colours_and_are_not_folded(
        self, session: Session, terminal_session: Session, arguments: list[str]
    ) -> None:
        done = terminal_session.with_more(COLUMNS="40").run(*arguments)
        assert "\x1b" not in done.stdout + done.stderr
        csv_rows = list(csv.DictReader(io.StringIO(session.run(*arguments, "--format", "csv").stdout)))
        if arguments[0] not in ("stats", "info"):  # which print several tables, or values of several lines
            assert len(done.stdout.splitlines()) in (0, len(csv_rows) + 1)

    def test_rows_on_a_terminal_heed_no_color(self, terminal_session: Session, arguments: list[str]) -> None:
        assert not COLOUR.search(terminal_session.with_more(NO_COLOR="1").run_on_a_terminal(*arguments))

    def test_rows_fit_a_narrow_terminal(self, terminal_session: Session, arguments: list[str]) -> None:
        rows = plain(terminal_session.run_on_a_terminal(*arguments, columns=40))
        assert "Traceback" not in rows
        table = [line for line in rows.splitlines() if "  " in line]  # notes are wrapped by the terminal itself
        assert all(len(line.rstrip()) <= 40 for line in table if not line.startswith("birder"))

    def test_a_closed_pipe_is_not_an_error(self, session: Session, arguments: list[str]) -> None:
        code, said = session.run_unread(*arguments)
        assert code == 0
        assert "Traceback" not in said and "BrokenPipe" not in said

    def test_rows_are_printed_in_the_c_locale(
        self, session: Session, session_in: Callable[[str], Session], arguments: list[str]
    ) -> None:
        assert session_in("C").run(*arguments).stdout == session.run(*arguments).stdout


def test_a_closed_pipe_is_not_an_error_when_the_process_ends() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, "models"], stdout=write, stderr=subprocess.PIPE, text=True, env=with_path(None))
    os.close(write)
    assert done.returncode == 0
    for word in ("Traceback", "BrokenPipe", "Exception ignored"):
        assert word not in done.stderr


def plain(written: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", written).replace("\r\n", "\n")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "en_US.UTF-8"])
@pytest.mark.parametrize("format", ["csv", "table", "json"])
def test_name_that_is_not_utf8_is_printed_as_utf8_and_programs_get_its_bytes(
    session_in: Callable[[str], Session], locale: str, format: str
) -> None:
    printed = session_in(locale).run("failures", "c.birder", "--format", format).stdout
    printed.encode("utf-8")  # bytes that are not UTF-8 would be surrogates
    assert "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}.jpg" in printed
    assert format == "table" or "caf%E9%20%FF.jpg" in printed  # in the column uri


def test_work_goes_on_when_standard_error_is_closed(session: Session, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [*COMMAND, "embed", "photos", "--in", str(tmp_path / "d.birder"), "--model", MODEL]
    done = subprocess.run(command, stderr=write, env=with_path(None))
    os.close(write)
    assert done.returncode == 1  # the broken image
    assert len(session.run("search", tmp_path / "d.birder", "--where", "true").stdout.splitlines()) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["embed", "photos", "--in", "c.birder", "--retry-failed"],
        ["classify", "owl.jpg", "broken.jpg"],
        ["predict", "owl.jpg", "broken.jpg", "--like", "c.birder"],
        ["similar", "broken.jpg", "--in", "c.birder"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_exit_code_is_1_if_something_failed(session: Session, arguments: list[str]) -> None:
    done = session.run(*arguments, code=1)
    assert "unknown file format" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *([command, "--nonsense"] for command in sorted(COMMANDS)),
        *([command, "nowhere", *more] for command, more in ON_A_COLLECTION.items()),
        ["nonsense"],
        [],
        ["models", "--format", "xml"],
        ["models", "--format", "parquet"],
        ["models", "--to", "models.txt"],
        ["models", "bioklip"],
        ["info", "nothing"],
        ["embed", "nowhere", "--in", "new.birder"],
        ["embed", "--in", "new.birder"],
        ["embed", "photos", "--in", "c.birder", "--model", "efficientnet_lite0_in1k"],
        ["search", "c.birder", "--where", "labl = 'cats'"],
        ["search", "c.birder", "--where", "label ="],
        ["search", "c.birder"],
        ["search", "c.birder", "--id", "nobody"],
        ["search", "c.birder", "--where", "true", "--to", "owl.jpg"],
        ["export", "c.birder", "--to", MODEL, "--format", "csv"],
        ["export", "c.birder", "--to", "e.csv", "--by", "label"],
        ["label", "c.birder", "--set", "label=owl"],
        ["label", "c.birder", "--where", "true", "--set", "label"],
        ["predict", "owl.jpg", "--like", "c.birder", "--column", "nothing"],
    ],
    ids=" ".join,
)
def test_exit_code_is_2_for_wrong_use(session: Session, arguments: list[str]) -> None:
    done = session.run(*arguments, code=2)
    assert done.stdout == "" or not arguments
    assert "birder: " in done.stderr or not arguments


def test_former_spelling_of_embed_is_answered_with_the_present_one(session: Session) -> None:
    said = session.run("embed", "photos", "--to", "c.birder", code=2).stderr.splitlines()
    assert said[0] == "birder: No such option: --to. Did you mean --in?"
    assert "Example: birder embed photos/ --in photos.birder" in "\n".join(said)


@pytest.fixture(scope="module")
def session_with_ctrl_c(home: Path) -> Iterator[Session]:
    """An interpreter in which Ctrl-C is pressed whenever a command opens its collection."""
    before = """if True:
        import signal
        import birder.collection.storage
        birder.collection.storage.Storage.open = lambda *_, **__: signal.raise_signal(signal.SIGINT)
    """
    session = Session(before, cwd=home)
    yield session
    session.close()


@pytest.mark.parametrize(("command", "more"), ON_A_COLLECTION.items(), ids=list(ON_A_COLLECTION))
def test_ctrl_c_ends_a_command_with_one_sentence(session_with_ctrl_c: Session, command: str, more: list[str]) -> None:
    done = session_with_ctrl_c.run(command, "c.birder", *more, code=130)
    assert (done.stdout, done.stderr) == ("", "birder: interrupted\n")
