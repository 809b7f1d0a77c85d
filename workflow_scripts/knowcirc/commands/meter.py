"""How far a search is, on stderr: a bar where that is a terminal, a line of the log now and then elsewhere."""

import sys
import time
from typing import Any

from tqdm import tqdm

from knowcirc.circuits.acdc import Progress
from knowcirc.job import Ticker, TimeLeft

FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"  # its own {remaining} goes by the mean pace


class Meter:
    """A receiver of progress; to be closed in the end. `quiet` shows no bar (and the log then shows no lines)."""

    def __init__(self, what: str = "ACDC", *, quiet: bool) -> None:
        self.what = what
        self.shows_bar = not quiet and sys.stderr.isatty()
        self.bar: tqdm[Any] | None = None
        self.ticker = Ticker(what)
        self.start, self.left = time.monotonic(), TimeLeft()

    def __call__(self, progress: Progress) -> None:
        """Show the progress."""
        if self.shows_bar:
            self._draw(progress)
        else:
            self.ticker(progress)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()

    def _draw(self, progress: Progress) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=1.0,
                initial=progress.work,
                desc=self.what,
                file=sys.stderr,
                bar_format=FORMAT,
                dynamic_ncols=True,
                miniters=0,
                smoothing=0,
            )
        decided = f"{progress.decided}/{progress.total}"
        left = self.left(time.monotonic() - self.start, progress.work)
        rest = {} if left is None else {"left": tqdm.format_interval(left)}
        self.bar.set_postfix(rest, decided=decided, kept=progress.kept, tests=progress.tests, refresh=False)
        self.bar.update(progress.work - self.bar.n)
