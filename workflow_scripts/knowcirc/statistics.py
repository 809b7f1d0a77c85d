"""Intervals: Wilson for proportions, percentile bootstrap over facts for means; pooled means resample relations."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Shaped
from numpy import ndarray

DRAWS = 2000
Z95 = 1.959963984540054
Picks = Int[ndarray, "draw case"] | None
Statistic = Callable[[Picks], Shaped[ndarray, "*draws"]]


class Interval(NamedTuple):
    """A value with its 95 % interval and the number of cases behind it."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def wilson(hits: int, n: int) -> Interval:
    """Share of `hits` among `n` cases with its Wilson interval.

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.8, 0.49, 0.943, 10]
    """
    if n == 0:
        return NOTHING
    p = hits / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


def proportion(flags: Sequence[bool]) -> Interval:
    """Share of true flags with its Wilson interval."""
    return wilson(sum(bool(flag) for flag in flags), len(flags))


def bootstrap(values: Sequence[float], seed: int = 0) -> Interval:
    """Mean with its percentile bootstrap interval over the cases."""
    data = np.asarray(values, dtype=float)
    if not len(data):
        return NOTHING
    picks = np.random.default_rng(seed).integers(0, len(data), (DRAWS, len(data)))
    low, high = np.percentile(data[picks].mean(1), [2.5, 97.5])
    return Interval(float(data.mean()), float(low), float(high), len(data))


def paired_bootstrap(statistic: Statistic, n: int, seed: int = 0) -> Interval:
    """A statistic of `n` cases with its percentile bootstrap interval; each draw takes the same cases everywhere.

    `statistic` is given the indices of the cases, one row per draw, and gives a value for each; None: all cases.
    """
    picks = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    low, high = np.percentile(statistic(picks), [2.5, 97.5])
    return Interval(float(statistic(None)), float(low), float(high), n)


def pooled(values: Sequence[float], groups: Sequence[str], seed: int = 0) -> Interval:
    """Mean of group means, with an interval that resamples whole groups (relations); n counts the cases."""
    data: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        data.setdefault(group, []).append(value)
    return bootstrap([float(np.mean(case)) for case in data.values()], seed)._replace(n=len(values))


def columns(name: str, interval: Interval) -> dict[str, float]:
    """The three columns of a value in a table: NAME, NAME_low, NAME_high."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
