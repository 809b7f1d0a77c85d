"""What a study will take: costs of jobs, what they grow with, and the default study set beside itself."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowcirc.plan import COSTS, START_UP, Costs, check, count_edges, describe, measured, read_costs, with_seconds
from knowcirc.replay import Planned

ROOT = Path(__file__).resolve().parents[2]


def job(rule: str, seconds: float = 1.0, **wildcards: str) -> Planned:
    return Planned(rule, (), (rule,), 0, seconds, {"model": "smollm2-135m", **wildcards}, 6000, measured=True)


def costs(*, seconds: float = 10.0, **config: Any) -> Costs:
    """The project's table, each job at so many seconds, for a study that differs from the default in `config`."""
    read = read_costs([], ROOT)
    rows = {key: row.model_copy(update={"seconds": seconds}) for key, row in read.rows.items()}
    return replace(read, rows=rows, config={**read.config, **config})


def test_a_job_of_the_default_study_takes_what_its_row_says() -> None:
    found = costs()
    assert found.seconds(job("trace_facts", part="0")) == START_UP + 10
    assert found.seconds(job("discover_circuits", method="standing", relation="a")) == START_UP + 10
    assert found.seconds(job("plot_causal_trace", 2.5)) == 2.5  # no row: it draws


def test_a_method_or_editor_has_its_own_row() -> None:
    found = costs()
    assert found.of(job("discover_circuits", method="eap-ig+acdc")).of == "eap-ig+acdc"  # type: ignore[union-attr]
    assert found.of(job("edit_facts", editor="rome", part="0")).of == ""  # type: ignore[union-attr]
    assert found.of(job("describe_showcase")).of == "acdc"  # type: ignore[union-attr]
    other = costs(showcase={**found.config["showcase"], "method": "eap"})
    assert other.of(job("describe_showcase")).of == ""  # type: ignore[union-attr]


def test_costs_grow_with_settings_parts_and_the_model() -> None:
    plain = costs()
    more = costs(tracing={**plain.config["tracing"], "draws": 3 * plain.config["tracing"]["draws"]})
    assert more.seconds(job("trace_facts", part="0")) == START_UP + 30
    fewer = costs(tracing={**plain.config["tracing"], "facts": 7})
    assert fewer.seconds(job("trace_facts", part="1")) == START_UP + 10 * 2 / 5
    medium = plain.models["gpt2-medium"]
    assert plain.seconds(job("find_known_facts", model="gpt2-medium")) == pytest.approx(START_UP + 10 * 355 / 135)
    ratio = count_edges(medium) / count_edges(plain.models["smollm2-135m"])
    assert plain.seconds(job("describe_showcase", model="gpt2-medium")) == pytest.approx(
        START_UP + 10 * 355 / 135 * ratio
    )


@pytest.mark.parametrize(
    ("model", "edges"), [("smollm2-135m", 70651), ("gpt2-medium", 231877)]
)  # those of the graph: circuits/graph.py
def test_the_edges_are_about_those_of_the_graph(model: str, edges: int) -> None:
    assert count_edges(costs().models[model]) == pytest.approx(edges, rel=0.1)


def test_every_rule_with_a_benchmark_has_a_row_and_every_row_a_rule() -> None:
    rules = "".join(path.read_text("utf-8") for path in sorted((ROOT / "rules").glob("*.smk")))
    parts = re.split(r"^rule (\w+):$", rules, flags=re.MULTILINE)[1:]
    timed = {name for name, body in zip(parts[::2], parts[1::2], strict=True) if "\n    benchmark:\n" in body}
    assert len(timed) > 20
    assert {rule for rule, _ in costs().rows} == timed


def test_what_a_done_study_took_becomes_the_table() -> None:
    found = costs()
    jobs = [job("edit_facts", START_UP + seconds, editor="rome", part=part) for seconds, part in ((8, "0"), (4, "1"))]
    assert found.config["editing"]["records"] == 12
    seconds = measured(jobs, found)
    assert seconds == {("edit_facts", ""): 6.0}
    text = with_seconds((ROOT / COSTS).read_text("utf-8"), seconds)
    assert "\nedit_facts\t\t\t6.0\t" in text
    assert text.count("\n") == (ROOT / COSTS).read_text("utf-8").count("\n")
    assert measured([replace(jobs[0], measured=False)], found) == {}


def test_a_plan_says_stages_ends_and_downloads() -> None:
    found = costs()
    text = describe([job("trace_facts", 60.0), job("edit_facts", 30.0), job("plot_claims", 1.0)], [1, 2], found)
    assert "trace_facts                      1        60 s      6 GB" in text
    assert "On 1 cores: 91 s." in text
    assert "On 2 cores: 60 s." in text
    assert "Model smollm2-135m: in a wheel" in text
    assert "Not known" not in text
    unknown = describe(
        [job("discover_circuits", method="acdc"), job("edit_questions", editor="rome")], [1], costs(seconds=0)
    )
    assert "taken as nothing: discover_circuits acdc, edit_questions; the default study" in unknown
    assert "0.77" in check([job("find_known_facts", 16.9)], found)
