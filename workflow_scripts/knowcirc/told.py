"""What a run of the workflow says on the terminal: what it will do, one line of progress, failures, and where to look.

On a terminal the line of progress stays at the bottom, with a line for every job that runs beneath it: the last of
the job's log. Elsewhere (CI) both are printed now and then. All that Snakemake says stands in .snakemake/log.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from knowcirc.replay import Planned, replay

EVERY = 60.0  # seconds between two lines of progress where there is no terminal
TAIL = 4096  # bytes of a log that are read for its last line
TOLD = 0.05  # share of the work after which the run's own pace tells the time that is left
LEAST = 0.1  # share of a job's expected time that is still taken to be left once it has passed
FIRST = 1_000_000  # the priority of jobs that run already
MOST = 12  # lines of a message that are told
STAMP = re.compile(r"^\d\d:\d\d:\d\d knowcirc[\w.]*: ")
TRACEBACK = "Traceback (most recent call last)"
NOT_STARTED = "Nothing to be done"
FOLLOWS = (
    "CalledProcessError in file",
    "Exiting because a job execution failed",
    "At least one job did not complete successfully",
)
"""What Snakemake says besides of a job that failed, which the job's own message tells."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do: its jobs, each with the seconds that it is expected to take, and the cores there are.

    `text` says so; `results` is the study's folder. Without `cores` it runs on a cluster.
    """

    text: str
    jobs: Mapping[int, Planned]
    cores: int | None
    results: str

    def seconds(self, job: int) -> float:
        """What a job is expected to take; nothing for one that the plan does not have."""
        return self.jobs[job].seconds if job in self.jobs else 0.0


@dataclass(slots=True)
class Running:
    """A job at work: its name, its log, and when it began."""

    name: str
    log: str
    since: float


@dataclass(slots=True)
class State:
    """How far a run is."""

    plan: Plan | None = None
    running: dict[int, Running] = field(default_factory=dict)
    done: dict[int, float] = field(default_factory=dict)  # with the seconds that each took
    failed: int = 0
    told: bool = False  # an error of no job was told
    idle: bool = False  # there was nothing to do
    total: int = 0

    def finish(self, job: int, now: float) -> None:
        """Note that a job is done."""
        began = self.running.pop(job, None)
        self.done[job] = 0.0 if began is None else now - began.since

    def share(self, now: float) -> float:
        """The share of the expected seconds that is done, 0 to 1; of a running job at most nine tenths of its own."""
        if self.plan is None or not self.plan.jobs:
            return len(self.done) / self.total if self.total else 0.0
        plan = self.plan
        worked = sum(map(plan.seconds, list(self.done)))  # a copy: events come from another thread
        running = list(self.running.items())
        worked += sum(min(now - one.since, (1 - LEAST) * plan.seconds(job)) for job, one in running)
        return min(1.0, worked / (sum(map(plan.seconds, plan.jobs)) or 1.0))

    def left(self, elapsed: float, now: float) -> float | None:
        """Seconds until the end, None while nothing is known.

        What is still to do is replayed on the cores there are, at the pace of the jobs that are done; on a cluster the
        share of the work that is done tells it.
        """
        plan, share = self.plan, self.share(now)
        if plan is not None and plan.cores is not None:
            return replay(self._rest(plan, now, self.pace() if share >= TOLD else 1.0), plan.cores)
        return elapsed * (1 - share) / share if share >= TOLD else None

    def pace(self) -> float:
        """How many times as long as expected the jobs took that are done."""
        done = dict(self.done)
        expected = 0.0 if self.plan is None else sum(map(self.plan.seconds, done))
        return sum(done.values()) / expected if expected else 1.0

    def _rest(self, plan: Plan, now: float, pace: float) -> list[Planned]:
        """The jobs that are not done, with the seconds that each will still take."""
        rest = []
        for number, job in plan.jobs.items():
            seconds = pace * job.seconds
            if (one := self.running.get(number)) is not None:
                left = max(seconds - (now - one.since), LEAST * seconds)
                rest.append(replace(job, seconds=left, priority=FIRST))
            elif number not in self.done:
                rest.append(replace(job, seconds=seconds))
        return rest


@runtime_checkable
class Screen(Protocol):
    """Where a run is told."""

    def begin(self, lines: Callable[[], list[str]]) -> None:
        """Show the lines from now on, as often as suits."""

    def say(self, text: str) -> None:
        """Print a text, once."""

    def end(self) -> None:
        """Show the lines no more."""


class LiveScreen:
    """A terminal: the lines stay at its bottom and change in place."""

    def __init__(self, stream: Any) -> None:
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self.live: Live | None = None

    def begin(self, lines: Callable[[], list[str]]) -> None:
        """Show the lines from now on, renewed once a second."""

        def shown() -> RenderableType:
            return Text("\n".join(lines()), no_wrap=True, overflow="ellipsis")

        self.live = Live(console=self.console, get_renderable=shown, refresh_per_second=1, transient=True)
        self.live.start()

    def say(self, text: str) -> None:
        """Print a text above the lines."""
        self.console.print(text)

    def end(self) -> None:
        """Take the lines away."""
        if self.live is not None:
            self.live.stop()
            self.live = None


class PlainScreen:
    """A file or a pipe: the lines are printed now and then."""

    def __init__(self, stream: Any, every: float = EVERY) -> None:
        self.stream, self.every = stream, every
        self.ended = threading.Event()
        self.lock = threading.Lock()

    def begin(self, lines: Callable[[], list[str]]) -> None:
        """Print the lines every so many seconds."""
        threading.Thread(target=self._repeat, args=(lines,), daemon=True).start()

    def _repeat(self, lines: Callable[[], list[str]]) -> None:
        while not self.ended.wait(self.every):
            self.say("\n".join(lines()))

    def say(self, text: str) -> None:
        """Print a text."""
        with self.lock:
            self.stream.write(text + "\n")
            self.stream.flush()

    def end(self) -> None:
        """Print the lines no more."""
        self.ended.set()


def screen(stream: Any) -> Screen:
    """The screen that fits a stream."""
    return LiveScreen(stream) if Console(file=stream).is_terminal else PlainScreen(stream)


class Teller:
    """Tells a run event by event."""

    def __init__(self, where: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self.screen, self.clock = where, clock
        self.state = State()
        self.start = clock()
        self.begun = False

    def tell(self, record: logging.LogRecord) -> None:
        """Take in an event of Snakemake, and say what there is to say of it."""
        event, state = str(getattr(record, "event", None) or ""), self.state
        plan = getattr(record, "knowcirc_plan", None)
        if isinstance(plan, Plan):
            state.plan, self.start = plan, self.clock()
            self.screen.say(plan.text)
            self._begin()
        elif event == "job_info":
            name = named(record.rule_name, record.wildcards)  # type: ignore[attr-defined]
            log = next(iter(record.log), "")  # type: ignore[attr-defined]
            state.running[record.jobid] = Running(name, log, self.clock())  # type: ignore[attr-defined]
            self._begin()
        elif event == "job_finished":
            state.finish(record.job_id, self.clock())  # type: ignore[attr-defined]
        elif event == "progress":
            state.total = record.total  # type: ignore[attr-defined]
        elif event == "job_error":
            self._failed(record)
        elif record.levelno >= logging.WARNING:
            self._warned(record)
        elif str(record.msg).startswith(NOT_STARTED):
            state.idle = True
            self.screen.say("Nothing to do: all is up to date.")

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.screen.begin(self.lines)

    def _failed(self, record: logging.LogRecord) -> None:
        """Say which job failed, with its own message and the place of its log."""
        found = self.state.running.pop(record.jobid, None)  # type: ignore[attr-defined]
        self.state.failed += 1
        name = record.rule_name if found is None else found.name  # type: ignore[attr-defined]
        logs = [str(path) for path in record.log]  # type: ignore[attr-defined]
        said = next((line for path in logs if (line := last_message(Path(path)))), "")
        lines = [f"FAILED {name}: {said or 'it said nothing; it may have been killed, as where memory is short'}"]
        lines += [f"  log: {path}" for path in logs]
        traces = (Path(path).with_suffix(".traceback.txt") for path in logs)
        lines += [f"  where in the code: {path}" for path in traces if path.is_file()]
        self.screen.say("\n".join(lines))

    def _warned(self, record: logging.LogRecord) -> None:
        """Say what Snakemake warns of, or what went wrong that is no job's."""
        text = record.getMessage()
        if any(one in text for one in FOLLOWS):
            return
        self.state.told |= record.levelno >= logging.ERROR
        self.screen.say(text)

    def lines(self) -> list[str]:
        """The line of progress, and one for each job that runs."""
        state, now = self.state, self.clock()
        left = state.left(now - self.start, now)
        total = len(state.plan.jobs) if state.plan is not None else state.total
        parts = [f"{100 * state.share(now):.0f} %", f"{len(state.done)} of {total or '?'} jobs done"]
        parts += [] if left is None else [f"about {span(left)} left"]
        beneath = [f"  {one.name}: {last_line(Path(one.log)) or 'at work'}" for one in list(state.running.values())]
        return [", ".join(parts), *beneath]

    def end(self) -> None:
        """Take the lines away, and say how the run ended and where to look."""
        self.screen.end()
        state, taken = self.state, span(self.clock() - self.start)
        if state.failed:
            jobs = "1 job" if state.failed == 1 else f"{state.failed} jobs"
            self.screen.say(
                f"{jobs} failed after {taken}; {len(state.done)} are done and stay. Next: mend what the message says "
                "(the log has more), and give the same command again; it goes on from here."
            )
        elif state.plan is not None and state.done.keys() >= state.plan.jobs.keys():
            self.screen.say("\n".join([f"Done in {taken}.", *where_to_look(Path(state.plan.results))]))
        elif state.plan is not None and not state.told:
            self.screen.say(f"Stopped after {taken}; give the same command again, and it goes on from here.")


def where_to_look(results: Path) -> Iterator[str]:
    """The report and the checks of a study, where they are there."""
    if (report := results / "report.html").is_file():
        yield f"  report: {report}"
    if (checks := results / "checks.json").is_file():
        yield f"  every artifact was checked: {checks}"


def named(rule: str, wildcards: Mapping[str, object] | None) -> str:
    """A job as people read it: its rule and what it is of."""
    of = ", ".join(str(value) for value in (wildcards or {}).values())
    return f"{rule} ({of})" if of else rule


def last_line(path: Path) -> str:
    """The last line of a log, without its time and the module that wrote it; "" where there is none."""
    lines = _tail(path)
    return STAMP.sub("", lines[-1].strip()) if lines else ""


def last_message(path: Path) -> str:
    """The last message of a log, which may have several lines; of a traceback its last line. "" where there is none."""
    lines = _tail(path)
    begins = max((number for number, line in enumerate(lines) if STAMP.match(line)), default=max(0, len(lines) - 1))
    if any(line.startswith(TRACEBACK) for line in lines[begins:]):
        return lines[-1].strip()
    return STAMP.sub("", "\n".join(lines[begins:][:MOST])).strip()


def _tail(path: Path) -> list[str]:
    """The last lines of a log that are not empty."""
    try:
        with path.open("rb") as handle:
            handle.seek(0, 2)
            handle.seek(max(0, handle.tell() - TAIL))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def span(seconds: float) -> str:
    """A span of time in the unit that suits it.

    >>> span(30.0), span(600.0), span(36000.0), span(360000.0)
    ('30 s', '10 min', '10.0 h', '4.2 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
