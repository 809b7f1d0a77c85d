"""Upstream data: from a mirror folder or its public address, taken only if the checksum is right.

Where no checksum is pinned, that of the first download is recorded, and later ones are compared with it.
"""

import hashlib
import logging
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TypedDict

from knowcirc.cache import cache_folder
from knowcirc.files import atomic, read_json, write_json

TRIES = 3
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
    if mirror is not None:
        source = mirror / place
        if not source.is_file():
            raise ValueError(f"the mirror has no {source}; complete it, or set mirror to null to use the network")
        data, origin = source.read_bytes(), str(source)
    elif offline:
        raise ValueError(f"offline: {place} is not there yet; name a mirror folder, or set offline to false")
    else:
        data, origin = _download(url), url
    found = hashlib.sha256(data).hexdigest()
    log.info("%s: sha256 %s", origin, found)
    if sha256 or mirror is None:
        check_sha256(origin, found, sha256)
    with atomic(target) as part:
        part.write_bytes(data)


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
    record = record_of(origin)
    if not record.is_file():
        try:
            write_json(record, {"origin": origin, "sha256": found})
        except OSError as error:
            log.warning("the sha256 of %s cannot be recorded (%s); a later download is not compared", origin, error)
    elif (first := read_json(record)["sha256"]) != found:
        raise ValueError(
            f"{origin}: sha256 is {found}, but was {first} on the first download; if that is right, delete {record}"
        )


def record_of(origin: str) -> Path:
    """The file that holds the checksum of the first download from there."""
    return cache_folder() / "downloads" / f"{hashlib.sha256(origin.encode()).hexdigest()}.json"


def _download(url: str) -> bytes:
    reason = ""
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error))
            time.sleep(2**attempt)
    raise ValueError(f"cannot download {url}: {reason}; check the network, or name a mirror folder in the config")
