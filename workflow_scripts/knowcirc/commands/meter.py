"""How far a search is, on stderr: a bar where that is a terminal, a line of the log now and then elsewhere."""

import logging
import sys
import time
from typing import Any

from tqdm import tqdm

from knowcirc.circuits.acdc import Progress

EVERY = 10.0  # seconds between lines
log = logging.getLogger(__name__)


class Meter:
    """A receiver of progress; to be closed in the end. `quiet` shows no bar (and the log then shows no lines)."""

    def __init__(self, *, quiet: bool) -> None:
        self.shows_bar = not quiet and sys.stderr.isatty()
        self.bar: tqdm[Any] | None = None
        self.first = 0
        self.start: float | None = None
        self.said = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Show the progress."""
        if self.start is None:
            self.first, self.start = progress.decided, time.monotonic()
        if self.shows_bar:
            self._draw(progress)
        elif (now := time.monotonic()) - self.said >= EVERY:
            self.said = now
            log.info("%s", self._line(progress, now - self.start))

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def _draw(self, progress: Progress) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=progress.total,
                initial=progress.decided,
                desc="edges decided",
                unit="edge",
                file=sys.stderr,
                dynamic_ncols=True,
                miniters=1,
                smoothing=0,
            )
        self.bar.set_postfix(kept=progress.kept, tests=progress.tests, refresh=False)
        self.bar.update(progress.decided - self.bar.n)

    def _line(self, progress: Progress, elapsed: float) -> str:
        left, done = progress.total - progress.decided, progress.decided - self.first
        estimate = f", {elapsed / done * left:.0f} s left" if done else ""
        return (
            f"{progress.decided} of {progress.total} edges decided, {progress.kept} kept, {progress.tests} tests"
            f"{estimate}"
        )
