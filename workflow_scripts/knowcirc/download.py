"""Upstream data: from a mirror folder or its public address, taken only if the checksum is right."""

import hashlib
import logging
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TypedDict

from knowcirc.files import atomic

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
        ValueError: if it cannot be had, or its sha256 is not the pinned one (an empty one is not checked).
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
    if sha256 and found != sha256:
        raise ValueError(f"{origin}: sha256 is {found}, expected {sha256}; the file is damaged or has changed")
    log.info("%s: sha256 %s", origin, found)
    with atomic(target) as part:
        part.write_bytes(data)


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
