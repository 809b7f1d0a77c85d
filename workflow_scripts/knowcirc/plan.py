"""What a study will take, before it is run: jobs, time, memory, disk and downloads; on cores, GPUs or a cluster.

    python -m knowcirc.plan --configfile config/full.yaml --cores 2 8 --jobs 100
    python -m knowcirc.plan --configfile config/lre.yaml config/paper.yaml --gpus 1 --gpu-speedup 10

1. Snakemake's dry run says which jobs there are; `config/costs.tsv` says what a job of each rule took in the default
   study, and what that grows with: the model's size, and settings (`costs.py`).
2. The seconds are replayed through the graph of jobs (`replay.py`).

No times of a GPU are in `config/costs.tsv`: how many times as fast as one slow core it is, is yours to say.

`--measure` writes the seconds of `config/costs.tsv` and the table of `docs/costs.md` anew, from the default study once
it is done here; `--check` sets a study that is done beside its plan.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from snakemake.utils import update_config

from knowcirc.configuration.study import Study
from knowcirc.costs import COSTS, DEFAULT, START_UP, Costs, read_costs
from knowcirc.models.table import read_models
from knowcirc.replay import Planned, behind, needs_of, read_plan, replay
from knowcirc.told import span

MODELS = Path("config/models.tsv")
PAGE = Path("docs/costs.md")
MARKS = ("<!-- stages -->", "<!-- end of stages -->")
OTHERS = "figures, tables, gathering"
FETCHING = "fetch_model"  # the one rule with a row in costs.tsv that uses no GPU
ON_A_CLUSTER = (
    15.0  # seconds from a job's end to the start of what waits for it: Slurm's start, and the next look at its state
)


def config_of(configfiles: Sequence[Path], root: Path = Path()) -> dict[str, Any]:
    """All settings of a study whose configuration files are laid over the default one."""
    config = yaml.safe_load((root / DEFAULT).read_text("utf-8"))
    for path in configfiles:
        update_config(config, yaml.safe_load((root / path).read_text("utf-8")))
    return Study.model_validate(config).model_dump(by_alias=True)


def seconds_of(job: Planned, costs: Costs) -> float:
    """What a job is expected to take; one without a row gathers or draws, and takes what it took."""
    expected = costs.expected(job.rule, job.wildcards)
    return job.seconds if expected is None else expected


def on_gpus(jobs: Sequence[Planned], costs: Costs, speedup: float) -> list[Planned]:
    """The same jobs, those with a model on a GPU that is `speedup` times as fast as a core; starting them is not."""
    moved = []
    for job in jobs:
        gpu = job.rule != FETCHING and costs.of(job.rule, job.wildcards) is not None
        seconds = START_UP + (job.seconds - START_UP) / speedup if gpu else job.seconds
        moved.append(replace(job, gpu=gpu, seconds=seconds))
    return moved


def on_cluster(jobs: Sequence[Planned]) -> list[Planned]:
    """The same jobs as a batch system runs them, on nodes that are free; local ones stay with Snakemake."""
    return [job if job.local else replace(job, seconds=job.seconds + ON_A_CLUSTER) for job in jobs]


def describe(jobs: Sequence[Planned], costs: Costs) -> str:
    """The plan but for where it is run: one line per stage, the longest chain, what is not measured, and downloads."""
    lines = [f"{'stage':<28}{'jobs':>6}{'core time':>12}{'memory':>10}{'disk':>10}"]
    stages: dict[str, list[Planned]] = {}
    for job in jobs:
        stages.setdefault(job.rule if costs.of(job.rule, job.wildcards) is not None else OTHERS, []).append(job)
    stages |= {OTHERS: stages.pop(OTHERS, [])}  # as the last
    for stage, own in stages.items():
        most = max((job.mem_mb for job in own), default=0)
        memory = f"{most / 1000:.0f} GB" if most else ""
        lines.append(f"{stage:<28}{len(own):>6}{span(_seconds(own)):>12}{memory:>10}{_disk(_bytes(own, costs)):>10}")
    total, chain = _seconds(jobs), max(behind(jobs, needs_of(jobs)))
    lines.append(f"{'all':<28}{len(jobs):>6}{span(total):>12}{'':>10}{_disk(_bytes(jobs, costs)):>10}")
    lines.append(f"\nThe longest chain of jobs takes {span(chain)}.")
    lines += _unmeasured(jobs, costs)
    for name in costs.config["models"]:
        row = costs.models[name]
        what = "in a wheel" if row.source == "wheel" else f"about {4 * row.n_params / 1000:.1f} GB"
        lines.append(f"Model {name}: {what}, from {'this machine' if row.source == 'local' else row.location}.")
    return "\n".join(lines)


def _unmeasured(jobs: Sequence[Planned], costs: Costs) -> list[str]:
    """What of the plan rests on no measurement of its own, in a line for each kind."""
    found = [cost for job in jobs if (cost := costs.of(job.rule, job.wildcards))]
    names = {
        basis: sorted({f"{cost.rule} {cost.of}".strip() for cost in found if cost.basis == basis})
        for basis in ("scaled", "unknown")
    }
    lines = []
    if names["scaled"]:
        lines.append(f"Not measured, reckoned from other stages ({COSTS}): {', '.join(names['scaled'])}.")
    if names["unknown"]:
        lines.append(
            f"Not known, and taken as nothing: {', '.join(names['unknown'])}; no study has measured such a job."
        )
    return lines


def ends(jobs: Sequence[Planned], costs: Costs, args: argparse.Namespace) -> list[str]:
    """When the study ends, wherever the command line says that it may run."""
    lines = [f"On {number} cores: {span(replay(jobs, number))}." for number in args.cores]
    lines += [
        f"On a cluster, {number} jobs at once, each on a core, none waiting for a node: "
        f"{span(replay(on_cluster(jobs), number))}."
        for number in args.jobs
    ]
    if args.gpus and args.gpu_speedup is None:
        lines.append(
            "On GPUs: not known. No times of a GPU are measured here; --gpu-speedup X says that one is X times as fast "
            "as a core."
        )
    elif args.gpus:
        moved = on_gpus(jobs, costs, args.gpu_speedup)
        at = f"if each is {args.gpu_speedup:g} times as fast as a core (your number, not measured here)"
        for number in args.gpus:
            cores = max(args.cores)
            gpus = "1 GPU" if number == 1 else f"{number} GPUs"
            lines.append(f"On {gpus} and {cores} cores, {at}: {span(replay(moved, cores, number))}.")
            if args.jobs:
                end = replay(on_cluster(moved), max(args.jobs), number)
                lines.append(f"On a cluster, {max(args.jobs)} jobs at once on {gpus}, {at}: {span(end)}.")
    return lines


def _seconds(jobs: Sequence[Planned]) -> float:
    return sum((job.seconds for job in jobs), 0.0)


def _bytes(jobs: Sequence[Planned], costs: Costs) -> float:
    return sum((costs.size(job.rule, job.wildcards) for job in jobs), 0.0)


def _disk(size: float) -> str:
    """A size in the unit that suits it; empty below a megabyte.

    >>> _disk(2e5), _disk(2e6), _disk(2.5e9)
    ('', '2 MB', '2.5 GB')
    """
    if size < 1e6:
        return ""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def measured(jobs: Sequence[Planned], costs: Costs) -> dict[tuple[str, str], float]:
    """The mean seconds of each row's jobs beyond the start-up, those of a job of the default study."""
    found: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        if (cost := costs.of(job.rule, job.wildcards)) is not None and job.measured:
            growth = costs.growth(cost.grows, job.wildcards)
            found.setdefault((cost.rule, cost.of), []).append(max(0.0, job.seconds - START_UP) / growth)
    return {key: sum(seconds) / len(seconds) for key, seconds in found.items()}


def with_seconds(text: str, seconds: Mapping[tuple[str, str], float]) -> str:
    """The table of costs with other seconds, where there are some, which are then measured; all else stays."""
    lines, columns = [], ["rule", "of"]
    for line in text.splitlines():
        cells = line.split("\t")
        if cells[:2] == ["rule", "of"]:
            columns = cells
        elif not line.startswith("#") and (key := (cells[0], cells[1])) in seconds:
            cells[columns.index("seconds")] = f"{seconds[key]:.1f}"
            cells[columns.index("basis")] = "measured"
        lines.append("\t".join(cells))
    return "\n".join(lines) + "\n"


def stages_table(jobs: Sequence[Planned], costs: Costs) -> str:
    """What the timed jobs of a study that is done took: one line per row of the costs, the longest first."""
    lines = ["| stage | of | jobs | seconds of a core | most memory |", "|---|---|---|---|---|"]
    stages: dict[tuple[str, str], list[Planned]] = {}
    done = [job for job in jobs if job.measured]
    for job in done:
        cost = costs.of(job.rule, job.wildcards)
        stages.setdefault((job.rule, "" if cost is None else cost.of), []).append(job)
    for (rule, of), own in sorted(stages.items(), key=lambda stage: -_seconds(stage[1])):
        peak = max(job.peak_mb for job in own)
        lines.append(f"| `{rule}` | {of} | {len(own)} | {_seconds(own):,.0f} | {peak / 1000:.1f} GB |")
    return "\n".join([*lines, f"| all | | {len(done)} | {_seconds(done):,.0f} | |"])


def with_stages(page: str, table: str) -> str:
    """A page whose table of stages is another."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}"


def check(jobs: Sequence[Planned], costs: Costs) -> str:
    """What each stage of a study that is done took, beside what was expected."""
    lines = [f"{'stage':<28}{'expected':>10}{'taken':>10}{'ratio':>8}"]
    done = [job for job in jobs if job.measured]
    for rule in dict.fromkeys(job.rule for job in done):
        own = [job for job in done if job.rule == rule]
        lines.append(_beside(rule, own, costs))
    return "\n".join([*lines, _beside("all", done, costs)])


def _beside(name: str, jobs: Sequence[Planned], costs: Costs) -> str:
    taken, expected = _seconds(jobs), sum((seconds_of(job, costs) for job in jobs), 0.0)
    return f"{name:<28}{span(expected):>10}{span(taken):>10}{expected / taken:>8.2f}"


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


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    found = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    found.add_argument("--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="as Snakemake's")
    found.add_argument("--cores", type=_count, nargs="+", default=[2, 8, 32], metavar="N", help="cores of one machine")
    found.add_argument("--jobs", type=_count, nargs="+", default=[], metavar="N", help="jobs at once on a cluster")
    found.add_argument("--gpus", type=_count, nargs="+", default=[], metavar="N", help="GPUs for the jobs with a model")
    found.add_argument("--gpu-speedup", type=_ratio, metavar="X", help="how many times as fast as a core a GPU is")
    found.add_argument("--measure", action="store_true", help=f"write {COSTS} and {PAGE} from the study, done here")
    found.add_argument("--check", action="store_true", help="set a study that is done here beside its plan")
    return found


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _ratio(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no ratio above 0")
    return number


def main() -> None:
    """Plan the study of the command line."""
    args = parser().parse_args()
    try:
        costs = read_costs(config_of(args.configfile), read_models(MODELS))
        jobs = read_plan(dry_run(args.configfile), Path())
    except ValueError as error:
        sys.exit(f"plan: {error}")
    if args.measure:
        COSTS.write_text(with_seconds(COSTS.read_text("utf-8"), measured(jobs, costs)), "utf-8")
        PAGE.write_text(with_stages(PAGE.read_text("utf-8"), stages_table(jobs, costs)), "utf-8")
    elif args.check:
        sys.stdout.write(check(jobs, costs) + "\n")
    else:
        expected = [replace(job, seconds=seconds_of(job, costs)) for job in jobs]
        sys.stdout.write("\n".join([describe(expected, costs), *ends(expected, costs, args)]) + "\n")


if __name__ == "__main__":
    main()
