"""How much more is done by several processes side by side, of one thread each, than by one process of several."""

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import say, side_by_side, table
from knowcirc.facts.prompts import Prompt


def measure_processes(model: Path, prompts: Sequence[Prompt], rounds: int) -> list[dict[str, object]]:
    """Seconds of the same search in 1, 2, 4 ... processes, up to the cores, and in one process of as many threads."""
    cores = os.cpu_count() or 1
    say(f"Processes: each scores the edges of {len(prompts)} prompts by eap-ig-zero, start-up included")
    counts = [n for n in (1, 2, 4, 8, 16) if n <= cores]
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "prompts.csv"
        with given.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["prompt", "answer"])
            writer.writerows((prompt.text, prompt.answer_text) for prompt in prompts)
        calls = {(n, 1): partial(_run, model, given, Path(folder), n, 1) for n in counts}
        calls |= {(1, n): partial(_run, model, given, Path(folder), 1, n) for n in counts[1:]}
        named = {f"{n} x {threads}": call for (n, threads), call in calls.items()}
        seconds = {name: float(np.median(times)) for name, times in side_by_side(named, rounds, warm_up=False).items()}
    found, rows = [], []
    for (n, threads), each in zip(calls, seconds.values(), strict=True):
        gain = n * seconds["1 x 1"] / each
        found.append({"processes": n, "threads": threads, "seconds": each, "work_per_second": gain})
        rows.append([str(n), threads, each, gain])
    table(["processes", "threads of each", "seconds", "work a second (1 x 1: 1)"], rows)
    return found


def _run(model: Path, prompts: Path, folder: Path, processes: int, threads: int) -> None:
    """Run the search in so many processes at once.

    Raises:
        subprocess.CalledProcessError: if one fails.
    """
    command = [sys.executable, "-m", "knowcirc.cli", "discover", str(model), "--prompts", str(prompts), "--quiet"]
    command += ["--method", "eap-ig-zero"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    started = [
        subprocess.Popen([*command, "--out", str(folder / f"{number}.json")], env=environment)
        for number in range(processes)
    ]
    codes = [each.wait() for each in started]
    if any(codes):
        raise subprocess.CalledProcessError(max(codes, key=abs), command)
