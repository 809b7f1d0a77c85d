"""Upstream data: from a mirror folder or its public address, taken only if the checksum is right.

1. A download grows in a file beside the target. Where the connection breaks or hangs it is tried again after a pause,
   from where it stopped, as long as upstream still has the same file; so it goes on in a later run, too.
2. Its sha256 is compared with the pinned one; where none is pinned, that of the first download is recorded, and later
   ones are compared with it.
3. Only then it takes the target's name.
"""

import hashlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import TypedDict

import requests

from knowcirc.cache import cache_folder, keeping
from knowcirc.files import file_sha256, read_json, write_json

TRIES = 5  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second try; twice as long before each later one
TIMEOUT = (10, 60)  # seconds until a connection stands, and without a byte
CHUNK = 2**16
BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may be better later
TABLE = "config/datasets.tsv"
log = logging.getLogger(__name__)


class Reach(TypedDict):
    """Where upstream data may come from: a mirror folder, if there is one; and whether the network is out of bounds."""

    mirror: Path | None
    offline: bool


def reach() -> Reach:
    """What KNOWCIRC_MIRROR and KNOWCIRC_OFFLINE say (empty: no mirror, and the network is there)."""
    mirror = os.environ.get("KNOWCIRC_MIRROR", "")
    return {"mirror": Path(mirror) if mirror else None, "offline": bool(os.environ.get("KNOWCIRC_OFFLINE", ""))}


def fetch_file(target: Path, place: str, *, url: str, sha256: str, mirror: Path | None, offline: bool) -> None:
    """Write the file of `url` to `target`; `place` is its path under the mirror.

    Raises:
        ValueError: if it cannot be had, or its sha256 is not the pinned one; where that is empty, not the one of the
            first download (a mirror's file is not compared then, as it may be written otherwise).
    """
    if mirror is None and offline:
        raise ValueError(f"offline: {place} is not there yet; name a mirror folder, or set offline to false")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.download")
    if mirror is not None:
        source = mirror / place
        if not source.is_file():
            raise ValueError(f"the mirror has no {source}; complete it, or set mirror to null to use the network")
        _version_of(part).unlink(missing_ok=True)
        shutil.copyfile(source, part)
        origin = str(source)
    else:
        if not download(url, part) and not sha256:
            part.unlink()
            raise ValueError(
                f"{url}: neither the server nor {TABLE} says how to tell if the file is whole; put it into a mirror"
            )
        origin = url
    found = file_sha256(part)
    log.info("%s: sha256 %s", origin, found)
    try:
        if sha256 or mirror is None:
            check_sha256(origin, found, sha256)
    except ValueError:
        part.unlink()  # to go on from wrong bytes would help nobody
        raise
    part.replace(target)


def check_sha256(origin: str, found: str, expected: str) -> None:
    """Compare a download's checksum with the pinned one or, where that is empty, with that of the first download.

    The first is recorded in the cache folder, under its origin.

    Raises:
        ValueError: if it is another.
    """
    if expected:
        if found != expected:
            raise ValueError(f"{origin}: sha256 is {found}, expected {expected}; the file is damaged or has changed")
        return
    with keeping(f"the sha256 of {origin}", "a later download is not compared"):
        record = record_of(origin)
        if not record.is_file():
            write_json(record, {"origin": origin, "sha256": found})
        elif (first := read_json(record)["sha256"]) != found:
            raise ValueError(
                f"{origin}: sha256 is {found}, but was {first} on the first download; if that is right, delete {record}"
            )


def record_of(origin: str) -> Path:
    """The file that holds the checksum of the first download from there.

    Raises:
        NoCacheError: if there is no place for it.
    """
    return cache_folder() / "downloads" / f"{hashlib.sha256(origin.encode()).hexdigest()}.json"


def download(url: str, part: Path) -> bool:
    """Bring the file of `url` to `part`, from where an earlier try stopped; says whether it is known to be whole.

    Raises:
        ValueError: in one line, if it is not there, or `TRIES` tries in a row bring nothing.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            whole = _receive(url, part)
        except (*BROKEN, _BusyError) as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures == TRIES:
                raise _refusal(url, error) from None
            time.sleep(PAUSE * 2**failures)
        except requests.RequestException as error:
            raise _refusal(url, error) from None
        else:
            _version_of(part).unlink(missing_ok=True)
            return whole


class _BusyError(Exception):
    """A server's answer that may be another later."""


def _receive(url: str, part: Path) -> bool:
    """One try: go on behind what `part` holds, where upstream says that it is the same file; else from the start.

    Raises:
        requests.RequestException: if the connection breaks, or the server refuses.
        _BusyError: if the server cannot answer now, or not as was asked.
    """
    version, headers = _version_of(part), {"Accept-Encoding": "identity"}
    begun = _size(part) if version.is_file() else 0
    if begun:
        headers |= {"Range": f"bytes={begun}-", "If-Range": version.read_text("utf-8")}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code in BUSY:
            raise _BusyError(f"the server answers {answer.status_code} {answer.reason}")
        goes_on = answer.status_code == requests.codes.partial_content
        other = goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        if other or answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink(missing_ok=True)
            raise _BusyError("the server does not go on where the download stopped")
        answer.raise_for_status()
        if not goes_on:
            part.unlink(missing_ok=True)
            version.unlink(missing_ok=True)
            if tag := _tag(answer):
                version.write_text(tag, "utf-8")
        with part.open("ab") as handle:
            for chunk in answer.iter_content(CHUNK):
                handle.write(chunk)
        # requests compares with Content-Length, and a chunked answer has an end of its own
        return "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _version_of(part: Path) -> Path:
    """The file that says which version of upstream's file a part is of."""
    return part.with_name(f"{part.name}.version")


def _tag(answer: requests.Response) -> str:
    """What names the version of a file, as `If-Range` takes it; "" where the server does not say."""
    tag = answer.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag or answer.headers.get("Last-Modified", "")


def _refusal(url: str, error: Exception) -> ValueError:
    """Why a download failed, in one line."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, requests.HTTPError) and error.response is not None:
        text = f"the server answers {error.response.status_code} {error.response.reason}"
    elif isinstance(error, requests.Timeout) or "timed out" in text:
        text = "the server does not answer in time"
    elif "Max retries" in text:
        text = "the connection cannot be made"
    elif isinstance(error, BROKEN):
        text = "the connection broke"
    return ValueError(f"cannot download {url}: {text}; check the network, or name a mirror folder in the config")
