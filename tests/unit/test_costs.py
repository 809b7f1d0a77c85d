"""Costs of jobs: rows, what they grow with, time limits and sizes."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowcirc.costs import LEAST_LIMIT, START_UP, UNKNOWN_LIMIT, Costs, count_edges, read_costs
from knowcirc.models.table import read_models
from knowcirc.plan import config_of

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"model": "smollm2-135m"}


def costs(*, seconds: float = 10.0, **config: Any) -> Costs:
    """The project's table, each job at so many seconds, for a study that differs from the default in `config`."""
    read = read_costs(config_of([], ROOT), read_models(ROOT / "config/models.tsv"), ROOT)
    rows = {key: row.model_copy(update={"seconds": seconds}) for key, row in read.rows.items()}
    return replace(read, rows=rows, config={**read.config, **config})


def test_a_method_or_editor_has_its_own_row() -> None:
    found = costs()
    assert found.of("discover_circuits", {"method": "eap-ig+acdc"}).of == "eap-ig+acdc"  # type: ignore[union-attr]
    assert found.of("edit_facts", {"editor": "rome", "part": "0"}).of == ""  # type: ignore[union-attr]
    assert found.of("describe_showcase", {}).of == "acdc"  # type: ignore[union-attr]
    other = costs(showcase={**found.config["showcase"], "method": "eap"})
    assert other.of("describe_showcase", {}).of == ""  # type: ignore[union-attr]
    assert found.of("plot_claims", {}) is None


def grown(found: Costs, rule: str, **wildcards: str) -> float:
    named = {**SMALL, **wildcards}
    cost = found.of(rule, named)
    assert cost is not None
    return found.growth(cost.grows, named)


def test_costs_grow_with_settings_parts_and_the_model() -> None:
    plain = costs()
    assert grown(plain, "trace_facts", part="0") == 1
    more = costs(tracing={**plain.config["tracing"], "draws": 3 * plain.config["tracing"]["draws"]})
    assert grown(more, "trace_facts", part="0") == 3
    longer = {**plain.config["editing"]["sequential"], "edits": [1, 3, 20]}
    more = costs(editing={**plain.config["editing"], "sequential": longer})
    assert grown(more, "edit_in_sequence", editor="rome") == 2  # 20 edits, the default study makes 10
    fewer = costs(tracing={**plain.config["tracing"], "facts": 7})
    assert grown(fewer, "trace_facts", part="1") == 2 / 5
    medium = plain.models["gpt2-medium"]
    assert grown(plain, "find_known_facts", model="gpt2-medium") == pytest.approx(355 / 135)
    ratio = count_edges(medium) / count_edges(plain.models["smollm2-135m"])
    assert grown(plain, "describe_showcase", model="gpt2-medium") == pytest.approx(355 / 135 * ratio)


@pytest.mark.parametrize(
    ("model", "edges"), [("smollm2-135m", 70651), ("gpt2-medium", 231877)]
)  # those of the graph: circuits/graph.py
def test_the_edges_are_about_those_of_the_graph(model: str, edges: int) -> None:
    assert count_edges(costs().models[model]) == pytest.approx(edges, rel=0.1)


@pytest.mark.parametrize(
    ("model", "layers", "width"), [("smollm2-135m", 30, 1536), ("gpt2-medium", 24, 4096), ("gpt2-xl", 48, 6400)]
)
def test_second_moments_take_about_four_bytes_for_each_pair_of_keys(model: str, layers: int, width: int) -> None:
    assert costs().size("estimate_moments", {"model": model}) == pytest.approx(4 * layers * width**2, rel=0.2)


def test_sizes_are_those_of_the_rows_and_grow_by_themselves() -> None:
    found = costs()
    assert found.size("fetch_model", SMALL) == pytest.approx(4 * 135e6, rel=0.01)
    assert found.size("rank_answers", SMALL) == 0
    assert found.size("plot_claims", {}) == 0
    assert found.size("trace_facts", {**SMALL, "part": "99"}) == 0  # no fact is left for that job


def test_a_time_limit_is_a_multiple_of_what_is_expected_for_all_jobs_of_a_rule_alike() -> None:
    found = costs(seconds=3600.0)
    expected = (START_UP + 3600) / 60
    assert found.minutes("edit_facts", {**SMALL, "editor": "rome", "part": "0"}, 2.0) == 121  # 2 x 60.05, rounded up
    few = costs(seconds=3600.0, tracing={**found.config["tracing"], "facts": 6})
    assert {few.minutes("trace_facts", {**SMALL, "part": part}, 2.0) for part in "01"} == {121}
    larger = found.minutes("build_records", {"model": "gpt2-xl"}, 1.0)
    assert larger == pytest.approx(expected * 1558 / 135, rel=0.01)
    assert costs(seconds=1.0).minutes("build_records", SMALL, 3.0) == LEAST_LIMIT
    assert costs(seconds=0.0).minutes("build_records", SMALL, 3.0) == UNKNOWN_LIMIT
    with pytest.raises(ValueError, match="rule plot_claims has no row; add one"):
        found.minutes("plot_claims", SMALL, 3.0)


def test_every_rule_with_a_benchmark_has_a_row_and_a_time_limit_and_every_row_a_rule() -> None:
    rules = "".join(path.read_text("utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):$", rules, flags=re.MULTILINE)[1:]
    bodies = dict(zip(parts[::2], parts[1::2], strict=True))
    timed = {name for name, body in bodies.items() if "\n    benchmark:\n" in body}
    assert len(timed) > 20
    assert {rule for rule, _ in costs().rows} == timed
    assert {name for name, body in bodies.items() if f'runtime=minutes("{name}")' in body} == timed
    assert rules.count("runtime=") == len(timed)


def test_a_row_says_where_its_seconds_come_from() -> None:
    read = read_costs(config_of([], ROOT), read_models(ROOT / "config/models.tsv"), ROOT)
    for row in read.rows.values():
        assert (row.seconds > 0) == (row.basis != "unknown"), row
        assert bool(row.bytes) == bool(row.weighs), row
        read.growth(row.weighs, {**SMALL, "part": "0"})  # every word is a size or a place of the configuration


def test_reading_costs_imports_no_heavy_library() -> None:
    code = "import sys, knowcirc.costs; print([name for name in ('torch', 'pandas', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_new_method_needs_no_row_to_run_on_a_cluster() -> None:
    read = read_costs(config_of([], ROOT), read_models(ROOT / "config/models.tsv"), ROOT)
    named = {"model": "smollm2-135m", "method": "mine", "relation": "country_language"}
    assert read.of("discover_circuits", named) is None
    assert read.minutes("discover_circuits", named, 3.0) == UNKNOWN_LIMIT
