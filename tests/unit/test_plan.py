"""What a study will take: its plan on cores, GPUs and a cluster, and the default study set beside itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from knowcirc.costs import COSTS, START_UP
from knowcirc.plan import (
    MARKS,
    ON_A_CLUSTER,
    PAGE,
    check,
    describe,
    ends,
    measured,
    on_cluster,
    on_gpus,
    parser,
    seconds_of,
    stages_table,
    with_seconds,
    with_stages,
)
from knowcirc.replay import Planned
from unit.test_costs import costs

ROOT = Path(__file__).resolve().parents[2]


def job(rule: str, seconds: float = 1.0, **wildcards: str) -> Planned:
    return Planned(rule, (), (rule,), 0, seconds, {"model": "smollm2-135m", **wildcards}, 6000, measured=True)


def test_a_job_of_the_default_study_takes_what_its_row_says() -> None:
    found = costs()
    assert seconds_of(job("trace_facts", part="0"), found) == START_UP + 10
    assert seconds_of(job("discover_circuits", method="standing", relation="a"), found) == START_UP + 10
    assert seconds_of(job("plot_causal_trace", 2.5), found) == 2.5  # no row: it draws


def test_what_a_done_study_took_becomes_the_table() -> None:
    found = costs()
    jobs = [job("edit_facts", START_UP + seconds, editor="rome", part=part) for seconds, part in ((8, "0"), (4, "1"))]
    assert found.config["editing"]["records"] == 12
    seconds = measured(jobs, found)
    assert seconds == {("edit_facts", ""): 6.0}
    before = (ROOT / COSTS).read_text("utf-8")
    text = with_seconds(before, {**seconds, ("edit_questions", ""): 5.0})
    assert "\nedit_facts\t\t\t6.0\tparams share:editing/records:6\tmeasured\t" in text
    assert "\nedit_questions\t\t\t64.9\tparams share:editing/zsre_records:6\tscaled\t" in before
    assert "\nedit_questions\t\t\t5.0\tparams share:editing/zsre_records:6\tmeasured\t" in text
    assert len(text.splitlines()) == len(before.splitlines())
    assert with_seconds(before, {}) == before
    assert measured([replace(jobs[0], measured=False)], found) == {}


def test_the_page_of_costs_lists_what_the_stages_took() -> None:
    jobs = [
        replace(job("discover_circuits", seconds, method="standing"), peak_mb=peak)
        for seconds, peak in ((90.0, 2500.0), (110.0, 3210.0))
    ]
    jobs += [job("edit_facts", 700.0, part="0", editor="rome"), replace(job("plot_claims"), measured=False)]
    table = stages_table(jobs, costs())
    assert table.splitlines()[2:] == [
        "| `edit_facts` |  | 1 | 700 | 0.0 GB |",
        "| `discover_circuits` | standing | 2 | 200 | 3.2 GB |",
        "| all | | 3 | 900 | |",
    ]
    page = (ROOT / PAGE).read_text("utf-8")
    other = with_stages(page, table)
    assert table in other
    assert with_stages(other, "") == with_stages(page, "")
    assert other.partition(MARKS[0])[0] == page.partition(MARKS[0])[0]
    assert other.partition(MARKS[1])[2] == page.partition(MARKS[1])[2] != ""


def test_a_plan_says_stages_sizes_and_downloads() -> None:
    found = costs()
    text = describe([job("fetch_model", 60.0), job("edit_facts", 30.0), job("plot_claims", 1.0)], found)
    assert "fetch_model                      1        60 s      6 GB    542 MB" in text
    assert "edit_facts                       1        30 s      6 GB          \n" in text
    assert "all                              3        91 s              542 MB" in text
    assert "The longest chain of jobs takes 60 s." in text
    assert "Model smollm2-135m: in a wheel" in text
    assert "Not " not in text
    assert "0.77" in check([job("find_known_facts", 16.9)], found)


def test_a_plan_says_what_is_reckoned_and_what_is_not_known() -> None:
    found = costs()
    rows = {
        **found.rows,
        ("build_records", ""): found.rows["build_records", ""].model_copy(update={"basis": "unknown"}),
    }
    jobs = [job("discover_circuits", method="acdc"), job("edit_questions", editor="rome"), job("build_records")]
    text = describe(jobs, replace(found, rows=rows))
    assert (
        "Not measured, reckoned from other stages (config/costs.tsv): discover_circuits acdc, edit_questions." in text
    )
    assert "Not known, and taken as nothing: build_records; no study has measured such a job." in text


def said(jobs: list[Planned], *arguments: str) -> list[str]:
    return ends(jobs, costs(), parser().parse_args(["--cores", "2", *arguments]))


def test_jobs_with_a_model_share_gpus_whose_pace_the_user_gives() -> None:
    jobs = [job("trace_facts", START_UP + 100, part="0"), replace(job("trace_facts", 103.0, part="1"), outputs=("b",))]
    jobs += [job("fetch_model", 50.0), job("plot_claims", 30.0)]
    moved = on_gpus(jobs, costs(), 10.0)
    assert [each.gpu for each in moved] == [True, True, False, False]
    assert [each.seconds for each in moved] == [START_UP + 10, START_UP + 10, 50.0, 30.0]
    assert said(jobs, "--gpus", "1") == [
        "On 2 cores: 3 min.",
        "On GPUs: not known. No times of a GPU are measured here; --gpu-speedup X says that one is X times as fast as "
        "a core.",
    ]
    at = "if each is 2 times as fast as a core (your number, not measured here)"
    assert said(jobs, "--gpus", "1", "2", "--gpu-speedup", "2")[1:] == [
        f"On 1 GPU and 2 cores, {at}: 106 s.",
        f"On 2 GPUs and 2 cores, {at}: 103 s.",
    ]


def test_a_cluster_takes_a_while_to_start_a_job_but_not_what_stays_with_snakemake() -> None:
    jobs = [job("trace_facts", 40.0, part="0"), replace(job("gather_traces", 1.0), inputs=("trace_facts",), local=True)]
    assert [each.seconds for each in on_cluster(jobs)] == [40.0 + ON_A_CLUSTER, 1.0]
    line = "On a cluster, 4 jobs at once, each on a core, none waiting for a node: 56 s."
    assert said(jobs, "--jobs", "4") == ["On 2 cores: 41 s.", line]
    both = said(jobs, "--jobs", "4", "--gpus", "1", "--gpu-speedup", "37")
    assert both[-1].startswith("On a cluster, 4 jobs at once on 1 GPU, if each is 37 times as fast")
    assert both[-1].endswith(": 20 s.")  # 3 + 37 / 37 + 15 + 1


@pytest.mark.parametrize(
    "arguments", [["--gpu-speedup", "0"], ["--cores", "0"], ["--jobs", "-1"], ["--gpu-speedup", "x"]]
)
def test_what_cannot_be_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments)
    assert ended.value.code == 2
    assert arguments[0] in capsys.readouterr().err
