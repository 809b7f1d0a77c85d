"""Downloads: pinned checksums, the first one on record where none is pinned, and faults of the network."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from knowcirc import download
from knowcirc.download import fetch_file, record_of
from knowcirc.files import read_json

URL = "https://example.org/facts.json"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/knowcirc"


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """What the network holds, by address."""
    held = {URL: b"first"}
    monkeypatch.setattr(download, "download", lambda url, part: bool(part.write_bytes(held[url])))
    return held


def fetched(folder: Path, sha256: str = "", mirror: Path | None = None) -> bytes:
    fetch_file(folder / "facts.json", "a/facts.json", url=URL, sha256=sha256, mirror=mirror, offline=False)
    return (folder / "facts.json").read_bytes()


def test_a_file_of_another_checksum_than_the_pinned_one_is_refused(tmp_path: Path, upstream: dict[str, bytes]) -> None:
    assert fetched(tmp_path, digest(b"first")) == b"first"
    assert not record_of(URL).exists()
    upstream[URL] = b"second"
    with pytest.raises(ValueError, match=f"sha256 is {digest(b'second')}, expected {digest(b'first')}"):
        fetched(tmp_path, digest(b"first"))
    assert (tmp_path / "facts.json").read_bytes() == b"first"


def test_without_a_pinned_checksum_the_first_download_decides(
    tmp_path: Path, cache: Path, upstream: dict[str, bytes]
) -> None:
    assert fetched(tmp_path) == b"first"
    record = record_of(URL)
    assert record.parent == cache / "downloads"
    assert read_json(record) == {"origin": URL, "sha256": digest(b"first")}
    assert fetched(tmp_path) == b"first"
    upstream[URL] = b"second"
    with pytest.raises(ValueError, match=f"but was {digest(b'first')} on the first download") as error:
        fetched(tmp_path)
    assert "\n" not in str(error.value)
    assert str(record) in str(error.value)
    assert (tmp_path / "facts.json").read_bytes() == b"first"
    record.unlink()
    assert fetched(tmp_path) == b"second"


def test_a_mirrors_file_is_no_first_download(tmp_path: Path, upstream: dict[str, bytes]) -> None:
    (tmp_path / "mirror/a").mkdir(parents=True)
    (tmp_path / "mirror/a/facts.json").write_bytes(b"the same, written otherwise")
    assert fetched(tmp_path, mirror=tmp_path / "mirror") == b"the same, written otherwise"
    assert not record_of(URL).exists()
    assert fetched(tmp_path) == b"first"
    fetched(tmp_path, mirror=tmp_path / "mirror")
    with pytest.raises(ValueError, match="expected 0000"):
        fetched(tmp_path, "0" * 64, mirror=tmp_path / "mirror")


def test_a_record_that_cannot_be_written_is_told(
    tmp_path: Path, cache: Path, upstream: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.write_text("a file where the folder should be", "utf-8")
    assert fetched(tmp_path) == b"first"
    assert "cannot be kept" in caplog.text


# -- faults of the network ---------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 3000


@dataclass
class Upstream:
    """A server of one file: what it does with each request in turn (`serve` once they are used up), and what it saw.

    It answers with a number, breaks off or hangs after half of the rest, sends nothing, goes on from another place
    (`elsewhere`), or does not say how long the file is (`open`).
    """

    faults: list[str] = field(default_factory=list)
    body: bytes = BODY
    tag: str = '"1"'
    ranges: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Upstream]:
    """A server on this machine."""
    state = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fault = state.faults.pop(0) if state.faults else "serve"
            given = self.headers.get("Range", "")
            state.ranges.append(given)
            if fault == "nothing":
                return
            if fault.isdigit():
                self.send_error(int(fault))
                return
            begun = int(given[6:-1]) if given and self.headers["If-Range"] == state.tag else 0
            self.send_response(206 if begun else 200)
            if fault != "open":
                self.send_header("Content-Length", str(len(state.body) - begun))
            if begun:
                begun -= 10 * (fault == "elsewhere")
                self.send_header("Content-Range", f"bytes {begun}-{len(state.body) - 1}/{len(state.body)}")
            if state.tag:
                self.send_header("ETag", state.tag)
            self.end_headers()
            rest = state.body[begun:][: len(state.body) // 3 if fault == "open" else None]
            if fault in ("break", "hang"):
                rest = rest[: len(rest) // 2]
            self.wfile.write(rest)
            if fault == "hang":
                self.wfile.flush()
                time.sleep(1.0)

        def log_message(self, *_: object) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{running.server_port}/facts.json"
    yield state
    running.shutdown()
    running.server_close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses, and a server that hangs is given up soon."""
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(download, "TIMEOUT", (1.0, 0.2))


def brought(server: Upstream, folder: Path, sha256: str = "") -> bytes:
    target = folder / "data/facts.json"
    fetch_file(target, "a/facts.json", url=server.url, sha256=sha256, mirror=None, offline=False)
    assert [path.name for path in target.parent.iterdir()] == ["facts.json"]
    return target.read_bytes()


@pytest.mark.parametrize(
    "faults", [[], ["break"], ["hang", "break"], ["503", "429"], ["break", "503"], ["break"] * 8, ["break", "nothing"]]
)
def test_a_download_goes_on_after_a_fault(server: Upstream, impatient: None, tmp_path: Path, faults: list[str]) -> None:
    server.faults = list(faults)
    assert brought(server, tmp_path, digest(BODY)) == BODY
    assert len(server.ranges) == len(faults) + 1
    stopped = [bool(given) for given in server.ranges[1:]]
    assert stopped == ["break" in faults[: n + 1] or "hang" in faults[: n + 1] for n in range(len(faults))]


def test_a_later_run_goes_on_where_the_first_stopped(server: Upstream, impatient: None, tmp_path: Path) -> None:
    server.faults = ["break", *["503"] * download.TRIES]
    with pytest.raises(ValueError, match=r"cannot download .*: the server answers 503 .*; check the network"):
        brought(server, tmp_path)
    assert not (tmp_path / "data/facts.json").exists()
    assert brought(server, tmp_path) == BODY
    assert len(BODY) // 2 - download.CHUNK <= int(server.ranges[-1].removeprefix("bytes=")[:-1]) <= len(BODY) // 2


def test_another_file_upstream_is_taken_from_its_start(server: Upstream, impatient: None, tmp_path: Path) -> None:
    server.faults = ["break", *["503"] * download.TRIES]
    with pytest.raises(ValueError, match="cannot download"):
        brought(server, tmp_path)
    server.body, server.tag = b"another", '"2"'
    assert brought(server, tmp_path) == b"another"


@pytest.mark.parametrize("fault", ["elsewhere", "416"])
def test_a_server_that_cannot_go_on_begins_anew(server: Upstream, impatient: None, tmp_path: Path, fault: str) -> None:
    server.faults = ["break", fault]
    assert brought(server, tmp_path) == BODY
    assert [bool(given) for given in server.ranges] == [False, True, False]


def test_a_file_that_nothing_says_is_whole_is_not_taken(server: Upstream, impatient: None, tmp_path: Path) -> None:
    server.faults, server.tag = ["open", "open"], ""
    with pytest.raises(ValueError, match="says how to tell if the file is whole"):
        brought(server, tmp_path)
    assert not record_of(server.url).exists()
    with pytest.raises(ValueError, match=f"expected {digest(BODY)}"):
        brought(server, tmp_path, digest(BODY))


def test_a_mirrors_file_is_not_gone_on_with(server: Upstream, impatient: None, tmp_path: Path) -> None:
    server.faults = ["break", *["503"] * download.TRIES]
    with pytest.raises(ValueError, match="cannot download"):
        brought(server, tmp_path)
    (tmp_path / "mirror/a").mkdir(parents=True)
    (tmp_path / "mirror/a/facts.json").write_bytes(b"the mirror's")
    target = tmp_path / "data/facts.json"
    fetch_file(target, "a/facts.json", url=server.url, sha256="", mirror=tmp_path / "mirror", offline=False)
    assert [path.name for path in target.parent.iterdir()] == ["facts.json"]
    assert brought(server, tmp_path) == BODY


def test_without_a_version_a_download_begins_anew(server: Upstream, impatient: None, tmp_path: Path) -> None:
    server.faults, server.tag = ["break"], ""
    assert brought(server, tmp_path) == BODY
    assert server.ranges == ["", ""]


@pytest.mark.parametrize(
    ("faults", "reason", "requests"),
    [
        (["404"], "the server answers 404 Not Found", 1),
        (["403"], "the server answers 403 Forbidden", 1),
        (["503"] * 9, "the server answers 503 Service Unavailable", download.TRIES),
        (["hang", *["nothing"] * 9], "the connection broke", download.TRIES + 1),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    server: Upstream, impatient: None, tmp_path: Path, faults: list[str], reason: str, requests: int
) -> None:
    server.faults = list(faults)
    with pytest.raises(ValueError, match=reason) as error:
        brought(server, tmp_path)
    assert "\n" not in str(error.value)
    assert len(server.ranges) == requests
    assert not (tmp_path / "data/facts.json").exists()


def test_a_server_that_is_not_there_is_said_so(impatient: None, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ValueError, match="the connection cannot be made"):
        brought(Upstream(url=f"http://127.0.0.1:{port}/facts.json"), tmp_path)


def test_wrong_bytes_are_not_kept(server: Upstream, impatient: None, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"expected {digest(b'right')}"):
        brought(server, tmp_path, digest(b"right"))
    assert list((tmp_path / "data").iterdir()) == []
    assert brought(server, tmp_path, digest(BODY)) == BODY
