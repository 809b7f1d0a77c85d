"""Taking times side by side, reading the memory in use, and laying results out as tables."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

MEBI = 2**20
PAGE: list[str] = []  # what was said, as Markdown


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call: median, least and most of `n` calls."""

    median: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """What the calls' times come to."""
        return cls(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


def once(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def side_by_side(
    calls: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each call in each round, after one round that does not count.

    The calls take turns, so that whatever else the machine does meanwhile falls on all of them.
    """
    for call in calls.values() if warm_up else ():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(once(call))
    return seconds


def median_of(call: Callable[[], object], rounds: int, *, warm_up: bool = True) -> float:
    """Median seconds of a call, after one call that does not count."""
    return statistics.median(side_by_side({"": call}, rounds, warm_up=warm_up)[""])


def memory() -> dict[str, float]:
    """Resident memory of this process now and at most so far, MiB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"resident_mib": pages * os.sysconf("SC_PAGE_SIZE") / MEBI, "peak_mib": peak}


def machine() -> dict[str, object]:
    """What the times were taken on; the load is that of the last minute before the start."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
    }


def say(text: str = "") -> None:
    """Write a line to standard output at once, and note it for the page."""
    PAGE.append(text.strip())
    _write(text)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows under their headings: the first column to the left, the others to the right."""
    cells = [list(heads), *([_text(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        _write("  ".join(["", row[0].ljust(widths[0]), *rest]).rstrip())
    _write("")
    lines = [f"| {' | '.join(row)} |" for row in cells]
    PAGE.extend(["", lines[0], f"|---|{'---:|' * (len(heads) - 1)}", *lines[1:], ""])


def _text(value: object) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def milliseconds(timing: Timing) -> list[object]:
    """A timing's cells: median, least and most, ms."""
    return [1e3 * timing.median, 1e3 * timing.least, 1e3 * timing.most]


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them.

    >>> duration(0.02), duration(75), duration(7200)
    ('20 ms', '75.0 s', '2.0 h')
    """
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
