"""Jobs: what their logs hold, how errors leave, how progress is told; and the lock that lets one run work alone."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from knowcirc import job
from knowcirc.job import Job, Ticker, TimeLeft, progress, run

RECORDED = (  # exact ACDC of the default study's showcase: seconds of one core, edges decided, work
    (1, 1, 0),
    (4, 4374, 0.00014),
    (7, 13231, 0.0017),
    (10, 25481, 0.01284),
    (13, 29723, 0.02191),
    (16, 33069, 0.0323),
    (19, 36408, 0.04644),
    (22, 39654, 0.06468),
    (25, 41416, 0.07748),
    (28, 42682, 0.0868),
    (31, 44140, 0.10018),
    (42, 47344, 0.13394),
    (52, 48561, 0.14842),
    (62, 49973, 0.16872),
    (72, 52032, 0.20133),
    (82, 52899, 0.21645),
    (92, 54353, 0.24487),
    (102, 55519, 0.26927),
    (112, 56395, 0.29016),
    (122, 57188, 0.30986),
    (132, 58014, 0.33111),
    (142, 58571, 0.34738),
    (153, 59559, 0.37625),
    (163, 60131, 0.39461),
    (173, 60739, 0.41533),
    (183, 61581, 0.44404),
    (193, 61971, 0.45943),
    (203, 62596, 0.48408),
    (214, 62963, 0.49856),
    (224, 63414, 0.51761),
    (234, 63819, 0.53597),
    (244, 64306, 0.55806),
    (254, 64710, 0.57667),
    (264, 64931, 0.58812),
    (274, 65309, 0.60771),
    (284, 65866, 0.63657),
    (295, 66115, 0.65049),
    (305, 66569, 0.67723),
    (315, 67116, 0.70943),
    (325, 67386, 0.7274),
    (335, 67685, 0.7473),
    (345, 68127, 0.77693),
    (355, 68439, 0.80029),
    (366, 68810, 0.82806),
    (376, 69000, 0.84295),
    (386, 69254, 0.86424),
    (396, 69493, 0.88428),
    (406, 69725, 0.90503),
    (416, 69969, 0.92784),
    (426, 70185, 0.94896),
    (437, 70324, 0.9634),
    (447, 70463, 0.97808),
    (457, 70611, 0.9951),
    (463, 70651, 1),
)
SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


class Named(SimpleNamespace):
    """Named values as Snakemake gives them."""

    def items(self) -> list[tuple[str, object]]:
        return list(vars(self).items())


@pytest.fixture
def fake(tmp_path: Path) -> SimpleNamespace:
    """What a script uses of its Snakemake job; the log's folder does not exist yet."""
    return SimpleNamespace(
        log=[str(tmp_path / "logs" / "rule.log")], rule="a_rule", params=Named(n=3), threads=1, input=[], output=[],
        wildcards=Named(),
    )  # fmt: skip


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """A process of its own, as far as logging goes: pytest's handlers are back afterwards, the job's are closed."""
    root, httpx = logging.getLogger(), logging.getLogger("httpx")
    kept, levels = root.handlers, (root.level, httpx.level)
    root.handlers = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers = kept
        logging.captureWarnings(False)
        root.setLevel(levels[0])
        httpx.setLevel(levels[1])


def log_of(fake: SimpleNamespace) -> str:
    return Path(fake.log[0]).read_text("utf-8")


def failing(error: BaseException) -> Callable[[Job], None]:
    """A script's `main` that says something and fails."""

    def main(_: Job) -> None:
        logging.getLogger("knowcirc.elsewhere").info("at work")
        raise error

    return main


def test_a_script_is_given_its_job_and_its_log_holds_what_it_says(
    fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(given: Job) -> None:
        logging.getLogger("knowcirc.elsewhere").info("read ünits")
        logging.getLogger("knowcirc.elsewhere").warning("left out: x")
        assert list(progress(range(given.params.n), "facts")) == [0, 1, 2]

    with own_logging():
        run(main, fake)
    lines = log_of(fake).splitlines()
    assert [line.split(": ", 1)[1] for line in lines[:2]] == ["read ünits", "left out: x"]
    assert "facts: 3 of 3 in 0 s, 0 s left" in lines[-1]
    screen = capsys.readouterr().err
    assert "left out: x" in screen
    assert "facts: 3 of 3" in screen
    assert "read ünits" not in screen


def test_a_job_computes_with_its_threads_and_leaves_the_number_as_it_was(fake: SimpleNamespace) -> None:
    before, seen = torch.get_num_threads(), []
    for fake.threads in (2, 1):
        with own_logging():
            run(lambda _: seen.append(torch.get_num_threads()), fake)
    assert seen == [2, 1]
    assert torch.get_num_threads() == before
    with own_logging(), pytest.raises(RuntimeError):
        run(failing(RuntimeError("no")), fake)
    assert torch.get_num_threads() == before


def test_a_new_run_begins_a_new_log(fake: SimpleNamespace) -> None:
    with own_logging():
        run(lambda _: logging.info("first"), fake)
    with own_logging():
        run(lambda _: logging.info("second"), fake)
    assert "second" in log_of(fake)
    assert "first" not in log_of(fake)


def test_a_users_mistake_leaves_as_one_line_with_its_traceback_beside_the_log(
    fake: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with own_logging(), pytest.raises(SystemExit) as left:
        run(failing(ValueError("config: 3 is too few %s; give more")), fake)
    assert left.value.code == 1
    assert left.value.__suppress_context__
    screen = capsys.readouterr().err.splitlines()
    assert len(screen) == 1
    assert screen[0].endswith("config: 3 is too few %s; give more")
    assert log_of(fake).splitlines()[-1].endswith("config: 3 is too few %s; give more")
    assert "Traceback" not in log_of(fake)
    beside = Path(fake.log[0]).with_suffix(".traceback.txt").read_text("utf-8")
    assert beside.startswith("Traceback")
    assert "in main" in beside


@pytest.mark.parametrize("kind", [KeyError, ZeroDivisionError, KeyboardInterrupt])
def test_any_other_error_leaves_as_it_is_with_its_traceback_in_the_log(
    fake: SimpleNamespace, kind: type[BaseException]
) -> None:
    with own_logging(), pytest.raises(kind, match="broken part"):
        run(failing(kind("broken part")), fake)
    text = log_of(fake)
    assert "at work" in text.splitlines()[0]
    assert "Traceback" in text
    assert "broken part" in text.splitlines()[-1]
    assert not list(Path(fake.log[0]).parent.glob("*.traceback.txt"))


def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test moves."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(job, "time", SimpleNamespace(monotonic=lambda: time.now))
    return time


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "knowcirc.job"]


def test_progress_tells_how_long_the_rest_will_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "knowcirc.job")
    time = clock(monkeypatch)
    for _ in progress(["a", "b", "c", "d"], "facts"):
        time.now += 20
    assert told(caplog) == [
        "facts: 1 of 4 in 20 s, 60 s left",
        "facts: 2 of 4 in 40 s, 40 s left",
        "facts: 3 of 4 in 60 s, 20 s left",
        "facts: 4 of 4 in 80 s, 0 s left",
    ]


def test_progress_is_told_now_and_then_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "knowcirc.job")
    time = clock(monkeypatch)
    for _ in progress(range(9), "facts"):
        time.now += 3
    assert [line.split(" in ")[0] for line in told(caplog)] == ["facts: 4 of 9", "facts: 8 of 9", "facts: 9 of 9"]


@pytest.mark.parametrize("pace", [lambda seconds: seconds, lambda seconds: 7 * seconds])
@pytest.mark.parametrize("first", [0, 12])  # a whole search, and one that was taken up again
def test_the_time_left_of_a_search_is_told_within_a_factor_of_three_or_not_at_all(
    pace: Callable[[float], float], first: int
) -> None:
    start, _, begun = RECORDED[first]
    points = [(float(pace(seconds) - pace(start)), float(work)) for seconds, _, work in RECORDED[first:]]
    left, end = TimeLeft(), points[-1][0]
    told = [(left(seconds, work), end - seconds) for seconds, work in points]
    for (value, _), (_, work) in zip(told, points, strict=True):
        assert value is None or work - begun >= job.MEASURED * (1 - begun)
    given = [(value, truth) for value, truth in told if value is not None and truth > job.STEP]
    assert len(given) > len(told) / 2
    for value, truth in given:
        assert truth / 3 <= value <= 3 * truth
    assert told[-1][0] == pytest.approx(0, abs=0.01)


def test_the_time_left_follows_a_machine_that_others_come_to_share() -> None:
    left, before = TimeLeft(), 60
    points = [(float(max(seconds, 3 * seconds - 2 * before)), float(work)) for seconds, _, work in RECORDED]
    end = points[-1][0]
    told = [(seconds, left(seconds, work), end - seconds) for seconds, work in points]
    late = [(value, truth) for seconds, value, truth in told if seconds > 2 * before and truth > job.STEP]
    assert len(late) > 30
    for value, truth in late:
        assert value is not None
        assert truth / 3 <= value <= 3 * truth


def test_a_search_says_how_far_it_is_and_what_is_left_once_that_is_measured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "knowcirc.job")
    time = clock(monkeypatch)
    ticker = Ticker("ACDC")
    for seconds, decided, work in ((0, 0, 0.0), (5, 300, 0.01), (12, 700, 0.05), (20, 800, 0.2), (40, 950, 0.6)):
        time.now = 100.0 + seconds
        ticker(SimpleNamespace(decided=decided, kept=7, total=1000, tests=decided, work=work))
    assert told(caplog) == [
        "ACDC: 700 of 1000 edges decided, 7 kept, in 12 s",
        "ACDC: 950 of 1000 edges decided, 7 kept, in 40 s, 20 s left",
    ]


def test_progress_over_items_of_unknown_number_gives_them_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "knowcirc.job")
    time = clock(monkeypatch)
    found = []
    for item in progress(iter("abc"), "batches"):
        time.now += 11
        found.append(item)
    assert found == ["a", "b", "c"]
    assert told(caplog)[-1] == "batches: 3 in 33 s"
    assert list(progress([], "nothing")) == []


def locked(folder: Path, *command: str) -> list[str]:
    return [sys.executable, "-m", "knowcirc.runlock", str(folder / "state" / "lock"), *command]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SCRIPTS)}


def test_a_second_run_is_refused_until_the_first_is_gone_even_if_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        locked(tmp_path, "sh", "-c", "echo ready; exec sleep 60"),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        second = subprocess.run(
            locked(tmp_path, "touch", "ran"), cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert second.returncode == 1
        assert second.stderr == f"another run is at work in {tmp_path}; wait for it, or stop it\n"
        assert not (tmp_path / "ran").exists()
        elsewhere = subprocess.run(locked(tmp_path / "other", "true"), env=environment(), check=False)
        assert elsewhere.returncode == 0
    finally:
        holder.kill()
        holder.communicate()
    third = subprocess.run(locked(tmp_path, "sh", "-c", "exit 7"), env=environment(), check=False)
    assert third.returncode == 7
