"""One job at a time on each GPU, and products there as exact as elsewhere.

A process that computes on a GPU holds a lock on a file of this machine, which goes with the process. Other jobs and
other studies of the same user wait for it, so that no two share a GPU by accident. `KNOWCIRC_JOBS_PER_GPU` says how
many may.
"""

import logging
import os
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

PAUSE = 2.0  # seconds between two looks for a GPU that has become free
log = logging.getLogger(__name__)
_held: dict[str, tuple[FileLock, int]] = {}  # by the name that was asked for: a process keeps its GPU to its end


def lease(name: str) -> torch.device:
    """The GPU that `cuda` (whichever is free first) or `cuda:N` stands for, held until the process ends.

    Waits while all are held. A process that asks again gets the same one.

    Raises:
        ValueError: if no GPU is visible, or not so many.
    """
    if name not in _held:
        _held[name] = _wait(_numbers(name))
        use_exact_products()
    return torch.device("cuda", _held[name][1])


def use_exact_products() -> None:
    """Multiply float32 matrices in float32: TF32 keeps 10 bits, which moves ranks. Sums of half precision likewise."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _numbers(name: str) -> list[int]:
    """The GPUs that a name stands for, by their numbers among the visible ones."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ValueError(f"device {name!r} asked for, but no GPU is visible; use --device cpu")
    if name == "cuda":
        return list(range(count))
    number = name.removeprefix("cuda:")
    if not number.isdecimal() or int(number) >= count:
        raise ValueError(f"device {name!r} does not exist; this machine shows cuda:0 to cuda:{count - 1}")
    return [int(number)]


def _wait(numbers: list[int]) -> tuple[FileLock, int]:
    """The first of the GPUs that has a place left, and the lock on that place."""
    places = _locks(numbers)
    waiting = False
    while True:
        for lock, number in places:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return lock, number
        if not waiting:
            log.warning("every GPU is at work for another job; waiting for one (locks are in %s)", _folder())
            waiting = True
        time.sleep(PAUSE)


def _locks(numbers: list[int]) -> list[tuple[FileLock, int]]:
    """The locks of all places, first those of GPUs that have none in use."""
    places = int(os.environ.get("KNOWCIRC_JOBS_PER_GPU") or 1)
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    return [(FileLock(folder / f"{_identity(n)}-{place}.lock"), n) for place in range(places) for n in numbers]


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"knowcirc-gpus-{os.getuid()}"


def _identity(number: int) -> str:
    """What names a GPU whatever others are visible: a job's GPU 0 may be another job's GPU 1."""
    properties = torch.cuda.get_device_properties(number)
    return str(getattr(properties, "uuid", f"{properties.name}-{number}")).replace("/", "-").replace(" ", "-")
