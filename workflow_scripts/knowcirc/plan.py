"""What a study will take, before it is run: jobs, time, memory and downloads, stage by stage, on so many cores.

    python -m knowcirc.plan --configfile config/full.yaml --cores 2 8 32

1. Snakemake's dry run says which jobs there are; `config/costs.tsv` says what a job of each rule took in the default
   study, and what that grows with: the model's size, and settings.
2. The seconds are replayed through the graph of jobs (`replay.py`).

`--measure` writes the seconds of `config/costs.tsv` anew, from the default study once it is done here; `--check` sets
a study that is done beside its plan.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from knowcirc.configuration.study import Study
from knowcirc.fields import Row, read_rows, value_at
from knowcirc.models.table import ModelRow, read_models
from knowcirc.replay import Planned, behind, needs_of, read_plan, replay

DEFAULT, COSTS, MODELS = Path("config/config.yaml"), Path("config/costs.tsv"), Path("config/models.tsv")
REFERENCE = "smollm2-135m"  # the model of the default study
OTHERS = "figures, tables, gathering"
START_UP = 3.0  # seconds of every job with a model, whatever it does


class Cost(Row):
    """A row of `config/costs.tsv`: what a job of a rule (and method or editor) takes, and what that grows with."""

    rule: str
    of: str
    at: str
    seconds: float
    grows: str


@dataclass(frozen=True, slots=True)
class Costs:
    """The table beside the study that it is used for and the default study that it is of."""

    rows: Mapping[tuple[str, str], Cost]
    config: Mapping[str, Any]
    default: Mapping[str, Any]
    models: Mapping[str, ModelRow]

    def of(self, job: Planned) -> Cost | None:
        """The row of a job, if its rule has one."""
        places = {row.at for (rule, _), row in self.rows.items() if rule == job.rule and row.at}
        named = [job.wildcards[name] for name in ("method", "editor") if name in job.wildcards]
        named += [str(value_at(self.config, place)) for place in places]
        return next((row for name in (*named, "") if (row := self.rows.get((job.rule, name))) is not None), None)

    def seconds(self, job: Planned) -> float:
        """What a job is expected to take; one without a row gathers or draws, and takes what it took."""
        cost = self.of(job)
        return job.seconds if cost is None else START_UP + cost.seconds * self.growth(cost, job)

    def growth(self, cost: Cost, job: Planned) -> float:
        """How many times as much a job does as one of the default study."""
        factor = 1.0
        for word in cost.grows.split():
            if word.startswith("share:"):
                _, place, most = word.split(":")
                factor *= part_of(_number(self.config, place), int(most), int(job.wildcards.get("part", 0))) / int(most)
            elif word in SIZES:
                model = self.models[job.wildcards.get("model", REFERENCE)]
                factor *= SIZES[word](model) / SIZES[word](self.models[REFERENCE])
            else:
                factor *= _number(self.config, word) / _number(self.default, word)
        return factor


def part_of(total: float, most: int, part: int) -> float:
    """How many things a job has of `total` that are dealt out `most` to a job.

    >>> part_of(12.0, 5, 0), part_of(12.0, 5, 2)
    (5.0, 2.0)
    """
    return float(max(0, min(most, total - most * part)))


def _number(config: Mapping[str, Any], place: str) -> float:
    value = value_at(config, place)
    return float(len(value) if isinstance(value, list | dict) else value)


def count_edges(model: ModelRow) -> float:
    """About the edges of a model's graph: every sender with every receiver above it."""
    kv = model.n_kv_heads if model.kv == "grouped" else model.n_heads
    receivers, senders = model.n_heads + 2 * kv + 1, model.n_heads + 1
    return model.n_layers**2 * receivers * senders / 2


SIZES = {
    "params": lambda model: float(model.n_params),
    "layers": lambda model: float(model.n_layers),
    "edges": count_edges,
}


def read_costs(configfiles: Sequence[Path], root: Path = Path()) -> Costs:
    """The table of costs for a study whose configuration files are laid over the default one."""
    rows = {(row.rule, row.of): row for row in read_rows(root / COSTS, Cost)}
    default = yaml.safe_load((root / DEFAULT).read_text("utf-8"))
    config = yaml.safe_load((root / DEFAULT).read_text("utf-8"))
    for path in configfiles:
        update_config(config, yaml.safe_load((root / path).read_text("utf-8")))
    full, plain = (Study.model_validate(each).model_dump(by_alias=True) for each in (config, default))
    return Costs(rows, full, plain, read_models(root / MODELS))


def describe(jobs: Sequence[Planned], cores: Sequence[int], costs: Costs) -> str:
    """The plan: one line per stage, then the whole on each number of cores, and what is downloaded."""
    lines = [f"{'stage':<28}{'jobs':>6}{'core time':>12}{'memory':>10}"]
    stages: dict[str, list[Planned]] = {}
    for job in jobs:
        stages.setdefault(job.rule if costs.of(job) is not None else OTHERS, []).append(job)
    stages |= {OTHERS: stages.pop(OTHERS, [])}  # as the last
    for stage, own in stages.items():
        most = max((job.mem_mb for job in own), default=0)
        memory = f"{most / 1000:.0f} GB" if most else ""
        lines.append(f"{stage:<28}{len(own):>6}{_time(_seconds(own)):>12}{memory:>10}")
    total, chain = _seconds(jobs), max(behind(jobs, needs_of(jobs)))
    lines.append(f"{'all':<28}{len(jobs):>6}{_time(total):>12}")
    lines.append(f"\nThe longest chain of jobs takes {_time(chain)}.")
    lines += [f"On {number} cores: {_time(replay(jobs, number))}." for number in cores]
    unknown = {f"{cost.rule} {cost.of}".strip() for job in jobs if (cost := costs.of(job)) and not cost.seconds}
    if unknown:
        lines.append(
            f"Not known, and taken as nothing: {', '.join(sorted(unknown))}; the default study has no such job."
        )
    for name in costs.config["models"]:
        row = costs.models[name]
        what = "in a wheel" if row.source == "wheel" else f"about {4 * row.n_params / 1000:.1f} GB"
        lines.append(f"Model {name}: {what}, from {'this machine' if row.source == 'local' else row.location}.")
    return "\n".join(lines)


def _seconds(jobs: Sequence[Planned]) -> float:
    return sum((job.seconds for job in jobs), 0.0)


def _time(seconds: float) -> str:
    """A span of time in the unit that suits it.

    >>> _time(30.0), _time(600.0), _time(36000.0)
    ('30 s', '10 min', '10.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def measured(jobs: Sequence[Planned], costs: Costs) -> dict[tuple[str, str], float]:
    """The mean seconds of each row's jobs beyond the start-up, those of a job of the default study."""
    found: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        if (cost := costs.of(job)) is not None and job.measured:
            growth = costs.growth(cost, job)
            found.setdefault((cost.rule, cost.of), []).append(max(0.0, job.seconds - START_UP) / growth)
    return {key: sum(seconds) / len(seconds) for key, seconds in found.items()}


def with_seconds(text: str, seconds: Mapping[tuple[str, str], float]) -> str:
    """The table of costs with other seconds, where there are some; all else stays."""
    lines = []
    for line in text.splitlines():
        cells = line.split("\t")
        if len(cells) == 5 and (key := (cells[0], cells[1])) in seconds:
            cells[3] = f"{seconds[key]:.1f}"
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def check(jobs: Sequence[Planned], costs: Costs) -> str:
    """What each stage of a study that is done took, beside what was expected."""
    lines = [f"{'stage':<28}{'expected':>10}{'taken':>10}{'ratio':>8}"]
    done = [job for job in jobs if job.measured]
    for rule in dict.fromkeys(job.rule for job in done):
        own = [job for job in done if job.rule == rule]
        taken, expected = _seconds(own), sum(map(costs.seconds, own), 0.0)
        lines.append(f"{rule:<28}{_time(expected):>10}{_time(taken):>10}{expected / taken:>8.2f}")
    taken, expected = _seconds(done), sum(map(costs.seconds, done), 0.0)
    return "\n".join([*lines, f"{'all':<28}{_time(expected):>10}{_time(taken):>10}{expected / taken:>8.2f}"])


def dry_run(configfiles: Sequence[Path]) -> str:
    """What Snakemake would run for a study, had it done nothing yet.

    Raises:
        ValueError: with what it says, if it refuses.
    """
    files = ["--configfile", *map(str, configfiles)] if configfiles else []
    command = [sys.executable, "-m", "snakemake", "-n", "--forceall", "--nolock", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError((done.stderr or done.stdout).strip())
    return done.stdout + done.stderr


def main() -> None:
    """Plan the study of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="as Snakemake's")
    parser.add_argument("--cores", type=int, nargs="+", default=[2, 8, 32], metavar="N")
    parser.add_argument("--measure", action="store_true", help=f"write {COSTS} from the default study, done here")
    parser.add_argument("--check", action="store_true", help="set a study that is done here beside its plan")
    args = parser.parse_args()
    try:
        costs = read_costs(args.configfile)
        jobs = read_plan(dry_run(args.configfile), Path())
    except ValueError as error:
        sys.exit(f"plan: {error}")
    if args.measure:
        COSTS.write_text(with_seconds(COSTS.read_text("utf-8"), measured(jobs, costs)), "utf-8")
    elif args.check:
        sys.stdout.write(check(jobs, costs) + "\n")
    else:
        expected = [replace(job, seconds=costs.seconds(job)) for job in jobs]
        sys.stdout.write(describe(expected, args.cores, costs) + "\n")


if __name__ == "__main__":
    main()
