from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.cli.running import shared_session
from tests.factory import collection_of_images

pytestmark = pytest.mark.slow  # every test runs the whole command

PROGRAM = [sys.executable, "-m", "birder", "serve"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    collection_of_images(folder, 12)
    return folder / "c.birder"


class Served:
    """`birder serve` as a child, the address it printed, and what it said."""

    def __init__(self, *arguments: object) -> None:
        command = [*PROGRAM, *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.first = self.process.stderr.readline()
        found = re.search(r"http\S+", self.first)
        assert found, self.first + self.process.stderr.read()
        self.address = httpx.URL(found[0])

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, float]:
        begin = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out + err, time.monotonic() - begin


def refused(*arguments: object) -> str:
    """What is said of wrong use, after a check that it ended with 2 and without a traceback."""
    return shared_session().run("serve", *arguments, code=2).stderr


def test_serve_prints_its_address_serves_the_page_and_ends_at_ctrl_c(collection: Path) -> None:
    served = Served(collection)
    try:
        assert "12 images" in served.first and served.address.host == "127.0.0.1"
        assert httpx.get(served.address).status_code == 200
        assert httpx.get(served.address.join("/api/v1/collection")).json()["rows"] == 12
    finally:
        code, said, seconds = served.end()
    assert code == 0 and "Traceback" not in said and seconds < 5
    assert said.strip().endswith("Stopped.")


def test_ctrl_c_ends_a_busy_server_at_once_and_leaves_no_process(collection: Path) -> None:
    served = Served(collection)
    client = httpx.Client(base_url=served.address.join("/api/v1/"))
    id_ = client.get("photos").json()["photos"][0]["id"]
    assert client.get(f"photos/{id_}/thumbnail").status_code == 200
    assert client.post("map").json()["state"] == "computing"
    children = subprocess.run(["pgrep", "-P", str(served.process.pid)], capture_output=True, text=True).stdout.split()
    assert children
    code, said, seconds = served.end()
    client.close()
    assert (code, "Traceback" in said) == (0, False) and seconds < 5
    time.sleep(0.2)
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_the_next_free_port_is_taken_unless_one_is_named(collection: Path) -> None:
    first = Served(collection)
    second = Served(collection)
    try:
        assert second.address.port != first.address.port
        assert "Name another with --port" in refused(collection, "--port", first.address.port)
    finally:
        first.end()
        second.end()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    named = Served(collection, "--port", port)
    assert named.address.port == port
    assert named.end(signal.SIGTERM)[0] in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2"])
def test_listening_beyond_this_machine_requires_a_token(collection: Path, host: str) -> None:
    assert "--token" in refused(collection, "--host", host)
    assert "at least 16" in refused(collection, "--host", host, "--token", "short")
    assert "different characters" in refused(collection, "--host", host, "--token", "a" * 16)


def test_with_a_token_the_printed_address_opens_and_others_do_not(collection: Path) -> None:
    token = "correct-horse-battery"
    served = Served(collection, "--host", "0.0.0.0", "--token", token)
    try:
        address = served.address.copy_with(host="127.0.0.1")
        assert served.address.params["token"] == token
        assert served.process.stderr is not None and "not encrypted" in served.process.stderr.readline()
        with httpx.Client(follow_redirects=True) as client:
            assert client.get(address).status_code == 200
            assert client.get(address.join("/api/v1/collection")).status_code == 200
        assert httpx.get(address.join("/api/v1/collection")).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        assert httpx.get(address.join("/api/v1/collection"), headers=bearer).status_code == 200
    finally:
        served.end()


def certificate(folder: Path) -> list[str]:
    """A certificate of this machine's own, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return ["--tls-cert", str(cert), "--tls-key", str(key)]


def test_with_a_certificate_connections_are_encrypted_and_the_session_is_secure(
    collection: Path, tmp_path: Path
) -> None:
    tls = certificate(tmp_path)
    served = Served(collection, "--token", "correct-horse-battery", *tls)
    try:
        assert served.address.scheme == "https"
        with httpx.Client(verify=ssl.create_default_context(cafile=tls[1]), timeout=30) as client:
            welcome = client.get(served.address)
            assert welcome.status_code == 303 and "Secure" in welcome.headers["set-cookie"]
            assert client.get(served.address.join("/api/v1/collection")).json()["rows"] == 12
            own = {"Origin": str(served.address.join("/")).rstrip("/")}
            assert client.post(served.address.join("/api/v1/search"), json={"where": "night"}, headers=own).is_success
        with pytest.raises(httpx.HTTPError):
            httpx.get(served.address.copy_with(scheme="http"))
    finally:
        _, said, _ = served.end()
    assert "Traceback" not in said


def test_unusable_certificates_are_reported_in_one_line(collection: Path, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkey", "-in", tls[3], "-aes256", "-passout", "pass:owl-owl", "-out", str(locked)], check=True
    )
    for given, why in (
        (tls[:2], "belong together"),
        (tls[2:], "belong together"),
        ([*tls[:3], str(wrong)], "PEM format"),
        ([*tls[:3], str(tmp_path / "none.pem")], "No such file"),
        ([*tls[:3], str(locked)], "passphrase"),
    ):
        assert why in refused(collection, *given)


def test_a_folder_without_a_collection_is_reported_in_one_line(tmp_path: Path) -> None:
    assert "is not a collection" in refused(tmp_path)


def test_the_token_may_come_from_the_environment(collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIRDER_TOKEN", "correct-horse-battery")
    served = Served(collection)
    try:
        assert served.address.params["token"] == "correct-horse-battery"
        assert httpx.get(served.address.join("/api/v1/collection")).status_code == 401
    finally:
        served.end()
