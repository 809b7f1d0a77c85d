"""The benchmarks that need no saved model run; their times are of no interest here."""

from benchmarks.growth import measure_growth
from benchmarks.timing import PAGE
from benchmarks.tracing import measure_tracing_growth


def test_growth_is_measured_one_factor_at_a_time() -> None:
    PAGE.clear()
    found = [*measure_growth(quick=True, rounds=1), *measure_tracing_growth(quick=True, rounds=1)]
    assert {row["factor"] for row in found} >= {"layers", "heads", "length", "prompts", "tokens", "draws"}
    assert all(row["seconds"] > 0 for row in found)
    assert PAGE
