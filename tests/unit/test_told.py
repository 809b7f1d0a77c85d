"""What a run says on the terminal: its plan, its progress, failures with their own message, and where to look."""

import io
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from knowcirc.costs import START_UP, Costs, read_costs
from knowcirc.forecast import forecast
from knowcirc.models.table import read_models
from knowcirc.plan import config_of
from knowcirc.replay import Planned
from knowcirc.told import LiveScreen, PlainScreen, Plan, Running, State, Teller, last_line, last_message, named, screen

ROOT = Path(__file__).resolve().parents[2]


class Kept:
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shows = False

    def begin(self, lines: Any) -> None:
        self.shows, self.lines = True, lines

    def say(self, text: str) -> None:
        self.said.append(text)

    def end(self) -> None:
        self.shows = False


class Run:
    """A teller with a clock of its own, and a way to send it events."""

    def __init__(self) -> None:
        self.now, self.screen = 0.0, Kept()
        self.teller = Teller(self.screen, lambda: self.now)

    def send(self, text: str = "", level: int = logging.INFO, **extra: object) -> None:
        record = logging.makeLogRecord({"msg": text, "levelno": level, **extra})
        self.teller.tell(record)

    def job(self, number: int, rule: str, log: str = "", **wildcards: str) -> None:
        self.send(event="job_info", rule_name=rule, jobid=number, wildcards=wildcards, log=[log] if log else [])

    def finish(self, number: int) -> None:
        self.send(event="job_finished", job_id=number)


def job(seconds: float, reads: str = "", makes: str = "") -> Planned:
    """A job of a plan."""
    return Planned("rule", tuple(reads.split()), tuple(makes.split()), 0, seconds)


PLAN = Plan("3 jobs to do, about 4 min", {1: job(60.0), 2: job(120.0), 3: job(120.0)}, 2, "nowhere")


def test_a_run_says_first_what_it_will_do() -> None:
    run = Run()
    run.send("Building DAG of jobs...")
    assert run.screen.said == []
    run.send(PLAN.text, knowcirc_plan=PLAN)
    assert run.screen.said == [PLAN.text]
    assert run.screen.shows
    assert run.teller.lines() == ["0 %, 0 of 3 jobs done, about 3 min left"]


def test_the_line_of_progress_has_the_jobs_beneath_it_with_the_last_line_of_their_logs(tmp_path: Path) -> None:
    run, log = Run(), tmp_path / "a.log"
    log.write_text("12:00:01 knowcirc.job: records: 1 of 9\n12:00:09 knowcirc.job: records: 2 of 9, 8 s left\n")
    run.send(PLAN.text, knowcirc_plan=PLAN)
    run.job(1, "edit_facts", str(log), model="tiny", editor="rome")
    run.job(2, "trace_facts")
    run.now = 30.0
    assert run.teller.lines() == [
        "20 %, 0 of 3 jobs done, about 2 min left",
        "  edit_facts (tiny, rome): records: 2 of 9, 8 s left",
        "  trace_facts: at work",
    ]
    run.finish(1)
    run.now = 90.0
    run.finish(2)
    assert run.teller.lines() == ["60 %, 2 of 3 jobs done, about 80 s left"]  # two thirds of 120 s, as the others took


def test_a_job_that_takes_longer_than_expected_is_never_done_by_itself() -> None:
    state = State(plan=Plan("", {1: job(10.0)}, 2, ""))
    state.running[1] = Running("", "", 0.0)
    assert state.share(1000.0) == pytest.approx(0.9)
    assert state.left(1000.0, 1000.0) == pytest.approx(1.0)


def test_the_time_left_is_that_of_what_must_still_follow_one_upon_the_other() -> None:
    jobs = {1: job(100.0, "", "a"), 2: job(10.0, "a", "b"), 3: job(50.0, "b"), **{n: job(1.0) for n in range(4, 40)}}
    state = State(plan=Plan("", jobs, 4, ""))
    state.running[1] = Running("", "", 0.0)
    for number in range(4, 40):
        state.running[number] = Running("", "", 0.0)
        state.finish(number, 1.0)
    assert state.left(40.0, 40.0) == pytest.approx(60.0 + 10.0 + 50.0)


def test_on_a_cluster_the_share_of_the_work_tells_the_time_left() -> None:
    state = State(plan=Plan("", {1: job(10.0), 2: job(30.0)}, None, ""))
    assert state.left(0.0, 0.0) is None
    state.running[1] = Running("", "", 0.0)
    state.finish(1, 5.0)
    assert state.left(5.0, 5.0) == pytest.approx(15.0)


def test_a_failure_is_told_by_the_job_itself_with_its_log_and_what_to_do_next(tmp_path: Path) -> None:
    run, log = Run(), tmp_path / "fetch.log"
    log.write_text("12:00:01 knowcirc.job: no such repository: a/b\n")
    log.with_suffix(".traceback.txt").write_text("Traceback ...")
    run.send(PLAN.text, knowcirc_plan=PLAN)
    run.job(1, "fetch_model", str(log), model="tiny")
    run.send("Error in rule", logging.ERROR, event="job_error", rule_name="fetch_model", jobid=1, log=[str(log)])
    text = 'RuleException:\nCalledProcessError in file "Snakefile", line 16:\nCommand ...'
    run.send(text, logging.ERROR, event="error", exception="RuleException")
    run.send("At least one job did not complete successfully.", logging.ERROR, event="error", exception="WorkflowError")
    assert run.screen.said[1:] == [
        "FAILED fetch_model (tiny): no such repository: a/b\n"
        f"  log: {log}\n  where in the code: {log.with_suffix('.traceback.txt')}"
    ]
    run.now = 5.0
    run.teller.end()
    assert run.screen.said[-1].startswith("1 job failed after 5 s; 0 are done and stay. Next: mend what")
    assert not run.screen.shows


def test_a_job_that_was_killed_says_so() -> None:
    run = Run()
    run.job(1, "trace_facts", "no/such.log")
    run.send("Error", logging.ERROR, event="job_error", rule_name="trace_facts", jobid=1, log=["no/such.log"])
    assert "it may have been killed" in run.screen.said[0]
    assert "  log: no/such.log" in run.screen.said[0]


def test_other_errors_and_warnings_are_told_whole() -> None:
    run = Run()
    run.send("WorkflowError:\nconfig: unknown key 'modles'", logging.ERROR, event="error", exception="WorkflowError")
    run.send("a file is old", logging.WARNING)
    run.send("MissingOutputException", logging.ERROR, event="error", exception="MissingOutputException")
    assert run.screen.said == [
        "WorkflowError:\nconfig: unknown key 'modles'",
        "a file is old",
        "MissingOutputException",
    ]
    run.teller.end()
    assert len(run.screen.said) == 3


def test_the_end_says_where_to_look(tmp_path: Path) -> None:
    run, plan = Run(), Plan("1 job", {1: job(3.0)}, 2, str(tmp_path))
    (tmp_path / "report.html").touch()
    run.send(plan.text, knowcirc_plan=plan)
    run.job(1, "all")
    run.finish(1)
    run.now = 200.0
    run.teller.end()
    assert run.screen.said[-1] == f"Done in 3 min.\n  report: {tmp_path / 'report.html'}"


def test_a_run_that_was_stopped_says_that_it_goes_on() -> None:
    run = Run()
    run.send(PLAN.text, knowcirc_plan=PLAN)
    run.finish(1)
    run.teller.end()
    assert run.screen.said[-1].startswith("Stopped after 0 s; give the same command again")


def test_a_study_that_is_done_says_so() -> None:
    run = Run()
    run.send("Nothing to be done (all requested files are present and up to date).")
    run.teller.end()
    assert run.screen.said == ["Nothing to do: all is up to date."]


def test_without_a_terminal_the_lines_are_printed_now_and_then() -> None:
    stream = io.StringIO()
    shown = PlainScreen(stream, every=0.02)
    shown.begin(lambda: ["50 %", "  a job"])
    shown.say("hello")
    deadline = time.monotonic() + 20
    while stream.getvalue().count("50 %\n  a job\n") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    shown.end()
    assert stream.getvalue().startswith("hello\n")
    assert stream.getvalue().count("50 %\n  a job\n") >= 2
    assert isinstance(screen(io.StringIO()), PlainScreen)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_lines_stay_at_the_bottom_and_go_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    shown = screen(stream)
    assert isinstance(shown, LiveScreen)
    shown.begin(lambda: ["50 % [bold]", "  a job" + 50 * "x"])
    shown.say("FAILED [x]: no")
    shown.end()
    text = stream.getvalue()
    assert "50 % [bold]" in text
    assert "FAILED [x]: no" in text
    assert "  a job" + 32 * "x" + "…" in text  # a line is cut to the width, so that it can be written over
    assert "\x1b[?25h" in text  # the cursor is shown again


LINES = {
    "12:00:01 knowcirc.job: a: b": "a: b",
    "12:00:01 knowcirc.circuits.acdc: x": "x",
    "ValueError: no": "ValueError: no",
    "plain": "plain",
    "": "",
}


@pytest.mark.parametrize(("line", "expected"), LINES.items())
def test_the_last_line_of_a_log_is_told_without_its_stamp(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "x.log").write_text(f"12:00:00 knowcirc.job: before\n{line}\n\n" if line else "")
    assert last_line(tmp_path / "x.log") == expected
    assert last_line(tmp_path / "none.log") == ""


MESSAGES = {
    "several lines": ("12:00:01 knowcirc.job: missing:\n  a\n  b\n", "missing:\n  a\n  b"),
    "one line": ("12:00:01 knowcirc.job: x\n12:00:02 knowcirc.job: no subject\n", "no subject"),
    "traceback": (
        "12:00:01 knowcirc.job: x\nTraceback (most recent call last):\n  File\nKeyError: 'a'\n",
        "KeyError: 'a'",
    ),
    "another program": ("first\ncurl: could not resolve\n", "curl: could not resolve"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("text", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_a_failure_tells_the_last_message_of_the_log_whole(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "x.log").write_text(text)
    assert last_message(tmp_path / "x.log") == expected


def test_a_job_is_named_by_what_it_is_of() -> None:
    assert named("all", {}) == "all"
    assert named("edit_facts", {"model": "tiny", "part": "0"}) == "edit_facts (tiny, 0)"


def made(number: int, rule: str, inputs: list[str], outputs: list[str], **wildcards: str) -> Any:
    kind = SimpleNamespace(name=rule)
    files = {"input": inputs, "output": outputs}
    return SimpleNamespace(jobid=number, rule=kind, priority=0, wildcards_dict=wildcards, **files)


def costs_of_default() -> Costs:
    return read_costs(config_of([], ROOT), read_models(ROOT / "config/models.tsv"), ROOT)


def test_the_forecast_adds_up_what_the_jobs_are_expected_to_take() -> None:
    costs = costs_of_default()
    jobs = [
        made(4, "fetch_model", [], ["m"], model="smollm2-135m"),
        made(9, "build_report", ["m"], ["r"]),
    ]
    plan = forecast(jobs, costs, 2)
    fetched = START_UP + costs.rows["fetch_model", ""].seconds
    assert [plan.seconds(number) for number in plan.jobs] == pytest.approx([fetched, 1.0])
    assert State(plan=plan).left(0.0, 0.0) == pytest.approx(fetched + 1.0)  # one waits for the other
    assert plan.text.startswith("2 jobs to do, about ")
    assert "results/report.html" in plan.text
    assert forecast(jobs, costs, None).cores is None


def test_where_no_time_can_be_told_the_run_says_so_and_goes_on() -> None:
    job = made(0, "find_known_facts", [], ["k"], model="no-such-model")
    plan = forecast([job], costs_of_default(), 2)
    assert "how long they take is not known (config/costs.tsv: KeyError" in plan.text
    assert (plan.seconds(0), plan.cores) == (1.0, None)
