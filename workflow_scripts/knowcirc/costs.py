"""What a job costs, by `config/costs.tsv`: seconds of one core in the default study, and what they grow with.

The rules take time limits of jobs from it, so reading it is a matter of milliseconds: it imports no heavy library.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from knowcirc.configuration.study import Study
from knowcirc.fields import Row, read_rows, value_at
from knowcirc.models.table import ModelRow

DEFAULT, COSTS = Path("config/config.yaml"), Path("config/costs.tsv")
REFERENCE = "smollm2-135m"  # the model of the default study
START_UP = 3.0  # seconds of every job with a model, whatever it does
LEAST_LIMIT = 20  # minutes that any job may take: starting, reading and writing on a slow file system
MOMENTS_TO_A_WEIGHT = 30 * 1536**2 / 135e6  # of the default model: layers, width of the MLP, weights
UNKNOWN_LIMIT = 240  # minutes that a job of unknown cost may take


class Cost(Row):
    """A row of `config/costs.tsv`: what a job of a rule (and method or editor) takes, and what that grows with.

    `basis` says where the seconds come from: `measured` in a study, or `scaled` from another stage. `bytes` is the size
    of the files that stay of a job; it grows with what `weighs` names.
    """

    rule: str
    of: str
    at: str
    seconds: float
    grows: str
    basis: Literal["measured", "scaled", "unknown"]
    bytes: int | None
    weighs: str


@dataclass(frozen=True, slots=True)
class Costs:
    """The table beside the study that it is used for and the default study that it is of."""

    rows: Mapping[tuple[str, str], Cost]
    config: Mapping[str, Any]
    default: Mapping[str, Any]
    models: Mapping[str, ModelRow]

    def of(self, rule: str, wildcards: Mapping[str, str]) -> Cost | None:
        """The row of a job, if its rule has one."""
        places = {row.at for (name, _), row in self.rows.items() if name == rule and row.at}
        named = [wildcards[name] for name in ("method", "editor") if name in wildcards]
        named += [str(value_at(self.config, place)) for place in places]
        return next((row for name in (*named, "") if (row := self.rows.get((rule, name))) is not None), None)

    def size(self, rule: str, wildcards: Mapping[str, str]) -> float:
        """About how many bytes of results stay of a job; 0 where that is little."""
        cost = self.of(rule, wildcards)
        if cost is None or not cost.bytes:
            return 0.0
        return cost.bytes * self.growth(cost.weighs, wildcards)

    def growth(self, grows: str, wildcards: Mapping[str, str], *, share: bool = True) -> float:
        """How many times as much a job does as one of the default study; without `share`, as if its share were full."""
        factor = 1.0
        for word in grows.split():
            if word.startswith("share:"):
                _, place, most = word.split(":")
                part = int(wildcards.get("part", 0))
                factor *= part_of(number_at(self.config, place), int(most), part) / int(most) if share else 1
            elif word.startswith("most:"):
                place = word.removeprefix("most:")
                factor *= max(value_at(self.config, place)) / max(value_at(self.default, place))
            elif word in SIZES:
                model = self.models[wildcards.get("model", REFERENCE)]
                factor *= SIZES[word](model) / SIZES[word](self.models[REFERENCE])
            else:
                factor *= number_at(self.config, word) / number_at(self.default, word)
        return factor

    def expected(self, rule: str, wildcards: Mapping[str, str], *, share: bool = True) -> float | None:
        """The seconds of a core that a job is expected to take, its start included; None where the table has no row."""
        cost = self.of(rule, wildcards)
        return None if cost is None else START_UP + cost.seconds * self.growth(cost.grows, wildcards, share=share)

    def minutes(self, rule: str, wildcards: Mapping[str, str], safety: float) -> int:
        """How long a job may take: `safety` times what it is expected to take, and never less than `LEAST_LIMIT`.

        All jobs of a rule, method, editor and model get the same limit: Slurm's job arrays ask for all of a rule alike.

        Raises:
            ValueError: if the table has no such rule.
        """
        cost = self.of(rule, wildcards)
        if cost is None and not any(name == rule for name, _ in self.rows):
            raise ValueError(f"{COSTS}: rule {rule} has no row; add one")
        if cost is None or not cost.seconds:  # a new method or editor needs no row
            return UNKNOWN_LIMIT
        expected = self.expected(rule, wildcards, share=False) or 0.0
        return max(LEAST_LIMIT, math.ceil(safety * expected / 60))


def part_of(total: float, most: int, part: int) -> float:
    """How many things a job has of `total` that are dealt out `most` to a job.

    >>> part_of(12.0, 5, 0), part_of(12.0, 5, 2)
    (5.0, 2.0)
    """
    return float(max(0, min(most, total - most * part)))


def number_at(config: Mapping[str, Any], place: str) -> float:
    """The number at a place of the configuration, or how many things a list there holds."""
    value = value_at(config, place)
    return float(len(value) if isinstance(value, list | dict) else value)


def count_edges(model: ModelRow) -> float:
    """About the edges of a model's graph: every sender with every receiver above it."""
    kv = model.n_kv_heads if model.kv == "grouped" else model.n_heads
    receivers, senders = model.n_heads + 2 * kv + 1, model.n_heads + 1
    return model.n_layers**2 * receivers * senders / 2


def count_moments(model: ModelRow) -> float:
    """About the values of a model's second moments, in millions: the square of the MLP's width, times layers.

    A layer of GPT-2 or GPT-NeoX holds 12 d² weights, and its MLP of width 4d has (4d)² moments. A Llama's MLP is
    narrower: taken as wide, for its weights, as the default model's.
    """
    if model.family in ("gpt2", "gpt_neox"):
        return model.n_params * 16 / 12
    return model.n_params * MOMENTS_TO_A_WEIGHT


SIZES = {
    "params": lambda model: float(model.n_params),
    "layers": lambda model: float(model.n_layers),
    "edges": count_edges,
    "moments": count_moments,
}


def read_costs(config: Mapping[str, Any], models: Mapping[str, ModelRow], root: Path = Path()) -> Costs:
    """The table of costs for a study of this configuration, in which every setting stands."""
    rows = {(row.rule, row.of): row for row in read_rows(root / COSTS, Cost)}
    default = Study.model_validate(yaml.safe_load((root / DEFAULT).read_text("utf-8"))).model_dump(by_alias=True)
    return Costs(rows, config, default, models)
