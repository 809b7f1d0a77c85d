"""Downloads without a network: pinned checksums, and the first one on record where none is pinned."""

import hashlib
from collections.abc import Iterator
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
    monkeypatch.setattr(download, "_download", held.__getitem__)
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
    assert "cannot be recorded" in caplog.text
