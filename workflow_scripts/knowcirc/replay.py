"""How long a study takes on more or fewer cores: the times of its jobs replayed through its graph of jobs.

    snakemake -n --forceall | python -m knowcirc.replay --cores 2 8

1. Read the jobs, their files and their priorities from Snakemake's dry run.
2. Take the seconds of each from its benchmark file, where a finished study left one; others count as one second.
3. Run them in thought: whenever a core is free, the ready job of the highest priority begins; of equal ones the one
   with the most seconds behind it.
"""

import argparse
import csv
import heapq
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

UNMEASURED = 1.0  # seconds of a job without a benchmark file: it gathers or draws


@dataclass(frozen=True, slots=True)
class Planned:
    """A job of a dry run; `seconds` and `peak_mb` are what it took, if it was `measured`, `mem_mb` what it asks for."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    priority: int
    seconds: float
    wildcards: Mapping[str, str] = field(default_factory=dict)
    mem_mb: int = 0
    measured: bool = False
    local: bool = False  # runs where Snakemake runs, on a cluster, too
    gpu: bool = False  # needs a GPU, where the study uses one
    peak_mb: float = 0.0


def read_plan(text: str, root: Path) -> list[Planned]:
    """The jobs that Snakemake's dry run lists; benchmark files lie below `root`.

    Raises:
        ValueError: if there are none.
    """
    jobs = []
    form = r"^(local)?(?:rule|checkpoint) (\w+):\n((?: .*\n)*)"
    for local, rule, body in re.findall(form, text, flags=re.MULTILINE):
        said = dict(re.findall(r"^    (\w+): (.*)$", body, flags=re.MULTILINE))
        files = {kind: tuple(filter(None, said.get(kind, "").split(", "))) for kind in ("input", "output")}
        benchmark = root / said["benchmark"] if "benchmark" in said else None
        taken = _measured(benchmark) if benchmark is not None and benchmark.is_file() else None
        seconds, peak = (UNMEASURED, 0.0) if taken is None else taken
        named = dict(pair.split("=", 1) for pair in said.get("wildcards", "").split(", ") if "=" in pair)
        memory = re.search(r"\bmem_mb=(\d+)", said.get("resources", ""))
        job = Planned(rule, files["input"], files["output"], int(said.get("priority", 0)), seconds, named)
        asked = int(memory[1]) if memory else 0
        jobs.append(replace(job, mem_mb=asked, peak_mb=peak, measured=taken is not None, local=bool(local)))
    if not jobs:
        raise ValueError("no jobs: give the output of `snakemake -n --forceall`")
    return jobs


def _measured(path: Path) -> tuple[float, float]:
    """Seconds and most megabytes of a job; one of a moment has no reading of its memory."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    peaks = [float(row["max_rss"]) for row in rows if row["max_rss"] not in ("-", "NA", "")]
    return max(float(row["s"]) for row in rows), max(peaks, default=0.0)


def needs_of(jobs: Sequence[Planned]) -> list[set[int]]:
    """For each job the jobs that make its inputs."""
    maker = {path: number for number, job in enumerate(jobs) for path in job.outputs}
    return [{maker[path] for path in job.inputs if path in maker} for job in jobs]


def users_of(needs: Sequence[set[int]]) -> list[list[int]]:
    """For each job those that need it."""
    users: list[list[int]] = [[] for _ in needs]
    for number, needed in enumerate(needs):
        for each in needed:
            users[each].append(number)
    return users


def behind(jobs: Sequence[Planned], needs: Sequence[set[int]]) -> list[float]:
    """For each job the seconds of the longest chain that begins with it."""
    users = users_of(needs)
    found: dict[int, float] = {}

    def chain(number: int) -> float:
        if number not in found:
            found[number] = jobs[number].seconds + max(map(chain, users[number]), default=0.0)
        return found[number]

    return [chain(number) for number in range(len(jobs))]


def replay(jobs: Sequence[Planned], cores: int, gpus: int | None = None) -> float:
    """Seconds until the last job is done on so many cores; jobs for a GPU share `gpus` of them, if that is given."""
    needs = needs_of(jobs)
    rest, users, open_needs = behind(jobs, needs), users_of(needs), [set(each) for each in needs]
    ready = [(-jobs[i].priority, -rest[i], i) for i, each in enumerate(open_needs) if not each]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, free = 0.0, len(jobs) if gpus is None else gpus
    while ready or running:
        waiting = []
        while ready and len(running) < cores:
            first = heapq.heappop(ready)
            job = jobs[first[2]]
            if job.gpu and not free:
                waiting.append(first)
                continue
            free -= job.gpu
            heapq.heappush(running, (now + job.seconds, first[2]))
        for each in waiting:
            heapq.heappush(ready, each)
        now, done = heapq.heappop(running)
        free += jobs[done].gpu
        for number in users[done]:
            open_needs[number].discard(done)
            if not open_needs[number]:
                heapq.heappush(ready, (-jobs[number].priority, -rest[number], number))
    return now


def describe(jobs: Sequence[Planned], cores: Sequence[int]) -> str:
    """The sum, the longest chain, and the end on each number of cores with the share of them that worked."""
    total = sum(job.seconds for job in jobs)
    by_rule: Mapping[str, float] = {
        rule: sum(job.seconds for job in jobs if job.rule == rule) for rule in dict.fromkeys(job.rule for job in jobs)
    }
    longest = sorted(by_rule.items(), key=lambda item: -item[1])[:8]
    lines = [f"{len(jobs)} jobs, {total:.0f} s in all, {max(behind(jobs, needs_of(jobs))):.0f} s in the longest chain"]
    lines += [f"  {rule:<26}{seconds:7.0f} s" for rule, seconds in longest]
    for number in cores:
        end = replay(jobs, number)
        lines.append(f"{number:>3} cores: {end:6.0f} s, at work {100 * total / (number * end):.0f} % of the time")
    return "\n".join(lines)


def main() -> None:
    """Read the dry run on standard input, and say how long the study takes."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 8, 32], metavar="N")
    parser.add_argument("--root", type=Path, default=Path(), metavar="DIR", help="where the study's results lie")
    args = parser.parse_args()
    sys.stdout.write(describe(read_plan(sys.stdin.read(), args.root), args.cores) + "\n")


if __name__ == "__main__":
    main()
