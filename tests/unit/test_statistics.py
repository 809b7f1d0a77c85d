"""Intervals against published and hand-computed values, and seeds that depend on names alone."""

import math

import numpy as np
import pytest
import torch

from knowcirc.seeding import derive, generator
from knowcirc.statistics import bootstrap, columns, pooled, proportion, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_intervals_are_the_published_ones(hits: int, n: int, low: float, high: float) -> None:
    interval = wilson(hits, n)
    assert interval.value == hits / n
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert interval.n == n
    assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0


def test_a_proportion_counts_its_true_flags() -> None:
    assert proportion([True, False, True, True]) == wilson(3, 4)


def test_no_cases_give_no_number() -> None:
    for interval in (wilson(0, 0), proportion([]), bootstrap([]), pooled([], [])):
        assert interval.n == 0
        assert math.isnan(interval.value)
        assert math.isnan(interval.low)


def test_the_bootstrap_is_seeded_and_counts_its_cases() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400).tolist()
    interval = bootstrap(values, 1)
    assert interval == bootstrap(values, 1) != bootstrap(values, 2)
    assert (interval.value, interval.n) == (pytest.approx(np.mean(values)), 400)
    half = 1.96 * np.std(values) / 20  # the normal interval, which it comes close to
    assert interval.low == pytest.approx(interval.value - half, abs=0.03)
    assert interval.high == pytest.approx(interval.value + half, abs=0.03)


def test_equal_cases_have_an_interval_without_width() -> None:
    assert bootstrap([0.25] * 7) == (0.25, 0.25, 0.25, 7)


def test_pooled_means_weigh_relations_alike_and_resample_them_whole() -> None:
    values, groups = [1.0] * 90 + [0.0] * 10, ["large"] * 90 + ["small"] * 10
    interval = pooled(values, groups)
    assert interval.value == 0.5
    assert interval.n == 100
    assert (interval.low, interval.high) == (0.0, 1.0)  # two relations only: either may be drawn twice
    assert bootstrap(values).high - bootstrap(values).low < 0.2


def test_values_without_a_group_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        pooled([1.0, 2.0], ["a"])


def test_columns_carry_the_name() -> None:
    assert columns("ES", wilson(8, 10)) == {
        "ES": 0.8,
        "ES_low": pytest.approx(0.4902, abs=1e-4),
        "ES_high": pytest.approx(0.9433, abs=1e-4),
    }


def test_seeds_depend_on_every_name_and_its_place() -> None:
    seeds = [derive(0, "a", "b"), derive(0, "ab"), derive(0, "b", "a"), derive(1, "a", "b"), derive(0, "a"), derive(0)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "a", "b") == derive(0, "a", "b")


def test_seeds_are_the_same_in_every_run() -> None:
    """Recorded once: Python's salted hash must never get into a seed."""
    assert derive(0, "a", 1) == 657490497891668870


def test_generators_draw_by_name_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (torch.rand(5, generator=generator(3, name)) for name in ("x", "x", "y"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())
