"""The bridge between a Snakemake script and the library: a typed job, logging to the rule's log, progress.

A script holds `main(job)` and ends with `run(main, snakemake)`; tests call `main` with any object that has a job's
attributes. Everything is logged to the rule's log; what a user should see while waiting goes to the terminal, too.
"""

import contextlib
import ctypes
import logging
import os
import platform
import sys
import time
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from knowcirc.errors import message_of
from knowcirc.provenance import check_inputs, write_records

T = TypeVar("T")
STEP = 10.0  # seconds between two lines of progress
MARK = 1.0  # seconds between two remembered states of a work
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
QUIET_JOBS = "KNOWCIRC_JOBS_LOG_ONLY"
"""Set for jobs whose progress and errors are read off their logs: they print warnings alone."""
MEASURED = 0.1  # share of a work after which the time that is left is told
log = logging.getLogger(__name__)


class Job(Protocol):
    """What a script may use of its Snakemake job."""

    rule: str
    input: Any
    output: Any
    params: Any
    wildcards: Any
    log: Any
    threads: int


def run(main: Callable[[Job], None], job: Any) -> None:
    """Run a script's `main`; its log ends with the error if there is one.

    Its inputs are found to be as they were made before it begins, and where its outputs come from is written beside
    them when it has ended (`provenance.py`). A user's mistake (ValueError) leaves as one line, as does a GPU's lack of
    memory, with the traceback in a file beside the log; anything else leaves with its traceback in the log.
    """
    path = Path(str(job.log[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    form = logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S")
    file, screen = logging.FileHandler(path, mode="w", encoding="utf-8"), logging.StreamHandler(sys.stderr)
    for handler in (file, screen):
        handler.setFormatter(form)
    screen.addFilter(shown_on_log_only if os.environ.get(QUIET_JOBS) else shown)
    logging.basicConfig(level=logging.INFO, handlers=[file, screen], force=True)
    logging.captureWarnings(True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        keep_pages()
        start, inputs = time.monotonic(), check_inputs(job.input)
        with threads(job.threads):
            main(job)
        write_records(job, inputs, time.monotonic() - start)
    except BaseException as error:
        if not (mistake := message_of(error)):
            with path.open("a", encoding="utf-8") as handle:
                handle.write(traceback.format_exc())
            if os.environ.get(QUIET_JOBS):
                raise SystemExit(1) from None
            raise
        log.error("%s", mistake)
        path.with_suffix(".traceback.txt").write_text(traceback.format_exc(), "utf-8")
        raise SystemExit(1) from None


def shown(record: logging.LogRecord) -> bool:
    """Whether a record goes to the terminal, too."""
    return record.name == __name__ or record.levelno >= logging.WARNING


def shown_on_log_only(record: logging.LogRecord) -> bool:
    """The same where the run's logger reads progress and errors off the log."""
    return record.levelno == logging.WARNING


def keep_pages() -> None:
    """Let the C library reuse the memory of freed tensors up to 32 MB, where it would hand each back to the system.

    Every new page costs more than a sum that is written to it: circuits' searches take a tenth less time so.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)


def release_pages() -> None:
    """Give the freed memory that is kept back to the system: over pieces of work of different sizes it adds up."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Inside, torch computes with this many threads, where the script has imported it; by itself it takes all cores.

    Two jobs of one thread do more than one of two. Snakemake sets OMP_NUM_THREADS and its kin to a job's threads, which
    binds numpy and scipy, but not a job that a profile or a batch system starts in its own way.
    """
    torch = sys.modules.get("torch")  # plots do without it, since its import takes seconds
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@runtime_checkable
class Progress(Protocol):
    """How far a search is: edges decided and kept, of a total, and the share of its work that is done."""

    @property
    def decided(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def work(self) -> float: ...


class TimeLeft:
    """Tells how long the rest of a work will take, by the pace of the later half of the time so far.

    A search begins with many edges that weigh next to nothing and still take a pass each, and what other jobs leave of
    the machine changes: the pace since the start misled by a factor of forty. Until `MEASURED` of what there was to do
    is done, nothing is told.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.work: list[float] = []

    def __call__(self, seconds: float, work: float) -> float | None:
        """The seconds left once the share `work` (0 to 1) is done, `seconds` after the start; None while unknown."""
        if not self.seconds or seconds - self.seconds[-1] >= MARK:
            self.seconds.append(seconds)
            self.work.append(work)
        half = max(0, bisect_right(self.seconds, seconds / 2) - 1)
        done = work - self.work[half]
        if work - self.work[0] < MEASURED * (1 - self.work[0]) or done <= 0:
            return None
        return (seconds - self.seconds[half]) / done * max(0.0, 1 - work)


class Ticker:
    """Says in the log, now and then, how many edges are decided and kept, and how long the rest will take."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.start = self.last = time.monotonic()
        self.left = TimeLeft()

    def __call__(self, progress: Progress) -> None:
        """Say how far it is, if it is time."""
        now = time.monotonic()
        left = self.left(now - self.start, progress.work)
        if now - self.last >= STEP:
            self.last = now
            rest = "" if left is None else f", {left:.0f} s left"
            counts = (self.what, progress.decided, progress.total, progress.kept, now - self.start, rest)
            log.info("%s: %d of %d edges decided, %d kept, in %.0f s%s", *counts)


def share_of(items: Sequence[T], part: str | int, size: int) -> Sequence[T]:
    """What one of several jobs works on: part 0 the first `size` items, part 1 the next; nothing behind the last.

    >>> [share_of("abcde", part, 2) for part in range(4)]
    ['ab', 'cd', 'e', '']
    """
    low = int(part) * size
    return items[low : low + size]


def progress(items: Iterable[T], what: str) -> Iterator[T]:
    """The items, saying on the terminal and in the log how many are done and how long the rest will take."""
    total = len(items) if isinstance(items, Sized) else None
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= STEP or done == total:
            last = now
            left = "" if total is None else f", {(now - start) / done * (total - done):.0f} s left"
            log.info("%s: %d%s in %.0f s%s", what, done, "" if total is None else f" of {total}", now - start, left)
