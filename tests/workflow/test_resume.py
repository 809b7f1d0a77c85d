"""A job that was cut short goes on from what it has finished, and ends as one that ran through."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import ask_benchmark
import choose_text
import edit_facts
import edit_in_sequence
import evaluate_circuits
import gather_tables
import trace_facts
from knowcirc.checks import check_table
from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.circuits.relation_table import circuit_table
from knowcirc.edited.portability import portability_table
from knowcirc.editing import sequence
from knowcirc.editing.sampling import sample_prefixes
from knowcirc.facts.records import Record
from knowcirc.files import read_table, write_json, write_table
from knowcirc.models.loading import load

SUBJECTS = ("France", "Spain", "Italy")


@pytest.fixture
def inputs(tmp_path: Path, folders: dict[str, Path]) -> SimpleNamespace:
    """A tiny model with provenance, and a survey in which it knows three facts."""
    provenance = folders["llama"] / "provenance.json"
    write_json(provenance, {"weights_sha256": "tiny"})
    rows = [
        {
            "relation": "language",
            "wording": "the language of {} is",
            "template": 1,
            "subject": subject,
            "object": "French",
            "rank": 0,
        }
        for subject in SUBJECTS
    ]
    write_table(tmp_path / "known.parquet", pd.DataFrame(rows))
    return SimpleNamespace(model=str(provenance), facts=[str(tmp_path / "known.parquet")], left_out=[])


def tracing_job(inputs: SimpleNamespace, study: Path, part: int = 0, share: int = 10, **changes: object) -> Any:
    """A job of the rule trace_facts, in the folder of a study."""
    tracing = {
        "source": "builtin",
        "template": 1,
        "relations": ["language"],
        "facts": 3,
        "draws": 2,
        "distribution": "gaussian",
        "noise_multiplier": 3.0,
        "noise_from": "prompts",
        "extra": 0,
    }
    params = SimpleNamespace(
        load_options={"dtype": "float32", "processing": "none"},
        tracing={**tracing, "window": 2, "noise_seed": 1, "severed": ["mlp"], **changes},
        share=share,
        seed=0,
        code="code",
    )
    output = SimpleNamespace(traces=str(study / f"parts/{part}.parquet"))
    return SimpleNamespace(input=inputs, output=output, params=params, wildcards=SimpleNamespace(part=str(part)))


def traces(study: Path, part: int = 0) -> pd.DataFrame:
    """What such a job wrote."""
    return pd.read_parquet(study / f"parts/{part}.parquet")


def test_a_killed_tracing_job_loses_one_fact_and_ends_the_same(
    inputs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    trace_facts.main(tracing_job(inputs, whole))
    traced: list[str] = []
    real = trace_facts.trace_fact

    def stops_at_the_second(model: Any, prompt: Any, settings: Any) -> Any:
        if len(traced) == 1:
            raise KeyboardInterrupt
        traced.append(prompt.text)
        return real(model, prompt, settings)

    monkeypatch.setattr(trace_facts, "trace_fact", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        trace_facts.main(tracing_job(inputs, cut))
    assert not (cut / "parts").exists()

    def counts(model: Any, prompt: Any, settings: Any) -> Any:
        traced.append(prompt.text)
        return real(model, prompt, settings)

    monkeypatch.setattr(trace_facts, "trace_fact", counts)
    trace_facts.main(tracing_job(inputs, cut))
    assert len(traced) == len(set(traced)) == len(SUBJECTS)
    pd.testing.assert_frame_equal(traces(cut), traces(whole), check_exact=True)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts that jobs trace from here on."""
    found: list[str] = []
    real = trace_facts.trace_fact

    def counts(model: Any, prompt: Any, settings: Any) -> Any:
        found.append(prompt.text)
        return real(model, prompt, settings)

    monkeypatch.setattr(trace_facts, "trace_fact", counts)
    return found


def test_one_more_fact_traces_that_fact_alone(inputs: SimpleNamespace, tmp_path: Path, traced: list[str]) -> None:
    trace_facts.main(tracing_job(inputs, tmp_path, facts=2))
    first = traces(tmp_path)
    (tmp_path / "parts/0.parquet").unlink()  # as Snakemake does before a job runs again
    trace_facts.main(tracing_job(inputs, tmp_path, facts=3))
    assert len(traced) == len(set(traced)) == 3
    more = traces(tmp_path)
    pd.testing.assert_frame_equal(more[more.case < 2], first, check_exact=True)
    trace_facts.main(tracing_job(inputs, tmp_path / "new", facts=3))
    pd.testing.assert_frame_equal(traces(tmp_path / "new"), more, check_exact=True)


def test_jobs_that_share_the_facts_trace_each_once_and_as_one_job_does(
    inputs: SimpleNamespace, tmp_path: Path, traced: list[str]
) -> None:
    for part in range(3):  # the last has nothing to do
        trace_facts.main(tracing_job(inputs, tmp_path / "shared", part=part, share=2))
    assert len(traced) == len(set(traced)) == 3
    assert len(traces(tmp_path / "shared", 2)) == 0
    trace_facts.main(tracing_job(inputs, tmp_path / "whole"))
    together = pd.concat([traces(tmp_path / "shared", part) for part in range(2)], ignore_index=True)
    pd.testing.assert_frame_equal(together, traces(tmp_path / "whole"), check_exact=True)
    trace_facts.main(tracing_job(inputs, tmp_path / "shared", share=3))
    assert len(traced) == 6  # shared in another way, but traced already


@pytest.mark.parametrize(
    "change",
    [
        *({"noise_multiplier": 2.0}, {"window": 1}, {"noise_seed": 2}, {"severed": []}),
        *({"distribution": "uniform"}, {"distribution": "multivariate"}, {"extra": 1}, {"noise_from": "subjects"}),
    ],
)
def test_a_changed_setting_traces_every_fact_anew(
    inputs: SimpleNamespace, tmp_path: Path, traced: list[str], change: dict[str, object]
) -> None:
    for changes in ({}, change):
        trace_facts.main(tracing_job(inputs, tmp_path, **changes))
    assert len(traced) == 6


def test_the_noise_is_that_of_all_surveyed_subjects(inputs: SimpleNamespace, tmp_path: Path) -> None:
    noises = []
    for facts in (1, 3):
        trace_facts.main(tracing_job(inputs, tmp_path, facts=facts))
        noises.append(traces(tmp_path)["noise"].unique().tolist())
    assert len(noises[0]) == 1
    assert noises[0] == noises[1]


def test_parts_made_under_other_settings_are_not_taken(
    inputs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done = trace_facts.trace_fact, []

    def stops_after_one(model: Any, prompt: Any, settings: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(prompt.text)
        return real(model, prompt, settings)

    monkeypatch.setattr(trace_facts, "trace_fact", stops_after_one)
    with pytest.raises(KeyboardInterrupt):
        trace_facts.main(tracing_job(inputs, tmp_path, draws=2))
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        trace_facts.main(tracing_job(inputs, tmp_path, draws=3))
    assert len(done) == 1  # the first fact was traced again: its part had two draws


@pytest.fixture
def edited(folders: dict[str, Path], tmp_path: Path) -> SimpleNamespace:
    """The inputs of jobs that edit a tiny model: three records."""
    model = load(folders["llama"], device="cpu")
    records = [
        Record(
            case=f"language/{subject}",
            relation="language",
            subject=subject,
            template="the language of {} is",
            target_true="French",
            target_new="Spanish",
            paraphrases=(f"{subject} is the language of",),
            neighbours=("the language of Spain is",),
            generation=(f"the {subject}",),
            references=("the language of Spain is Spanish",),
        )
        for subject in SUBJECTS
    ]
    prefixes = sample_prefixes(model, [(2, 2)], 0)
    listed = {"records": [record.as_json() for record in records], "prefixes": [list(prefix) for prefix in prefixes]}
    listed["more_records"] = []
    write_json(tmp_path / "records.json", listed)
    write_json(tmp_path / "moments.json", {"tokens": "0"})
    write_json(tmp_path / "edit_layer.json", {"layer": 1, "clamp": 4.0, "from": "table"})
    write_json(folders["llama"] / "provenance.json", {"weights_sha256": "tiny"})

    files = {name: str(tmp_path / f"{name}.json") for name in ("records", "moments", "edit_layer")}
    return SimpleNamespace(model=str(folders["llama"] / "provenance.json"), frequencies=[], **files)


def test_a_killed_editing_job_ends_the_same(
    edited: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job(output: Path) -> Any:
        params = SimpleNamespace(
            load_options={"dtype": "float32", "processing": "none"},
            settings={"steps": 2, "learning_rate": 0.01, "stop_loss": 0.0},
            share=3,
            generation_records=1,
            continuations=2,
            generation_tokens=3,
            seed=0,
            code="code",
        )
        made = SimpleNamespace(scores=str(output))
        return SimpleNamespace(
            input=edited, output=made, params=params, wildcards=SimpleNamespace(editor="ft-m", part="0")
        )

    edit_facts.main(job(tmp_path / "whole.csv"))
    real, calls = edit_facts.edit_record, []

    def stops_at_the_third(*arguments: Any, **options: Any) -> Any:
        if len(calls) == 2:
            calls.append("cut")
            raise KeyboardInterrupt
        calls.append("edit")
        return real(*arguments, **options)

    monkeypatch.setattr(edit_facts, "edit_record", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        edit_facts.main(job(tmp_path / "cut.csv"))
    edit_facts.main(job(tmp_path / "cut.csv"))
    assert calls == ["edit", "edit", "cut", "edit"]
    whole, cut = (pd.read_csv(tmp_path / f"{name}.csv").drop(columns="seconds") for name in ("whole", "cut"))
    pd.testing.assert_frame_equal(cut, whole, check_exact=True)


def sequence_job(edited: SimpleNamespace, folder: Path, seed: int = 0) -> Any:
    """A job of the rule edit_in_sequence, which finds the text that choose_text has chosen."""
    params = SimpleNamespace(
        load_options={"dtype": "float32", "processing": "none"},
        settings={"steps": 2, "learning_rate": 0.01, "stop_loss": 0.0},
        sequential={"edits": [2, 3], "text_tokens": 6, "text_length": 4, "text_file": None},
        seed=seed,
        code="code",
    )
    text = str(folder / "text.json")
    made = SimpleNamespace(scores=str(folder / "ft-m.csv"), text=text)
    given = SimpleNamespace(**{**vars(edited), "text": []})
    job = SimpleNamespace(input=given, output=made, params=params, wildcards=SimpleNamespace(editor="ft-m"))
    if not Path(text).is_file():
        choose_text.main(job)
    given.text = text
    return job


def test_a_killed_sequence_of_edits_loses_one_and_ends_the_same(
    edited: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    edit_in_sequence.main(sequence_job(edited, whole))
    real, made = edit_in_sequence.make_edit, []

    def stops_at_the_third(*arguments: Any) -> Any:
        made.append(arguments[2].subject)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(edit_in_sequence, "make_edit", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        edit_in_sequence.main(sequence_job(edited, cut))
    edit_in_sequence.main(sequence_job(edited, cut))
    assert len(made) == 4
    assert made[2] == made[3]
    tables = (pd.read_csv(folder / "ft-m.csv").drop(columns="seconds") for folder in (cut, whole))
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert not list(cut.glob("*.parts"))
    table = sequence.sequential_edits({"ft-m": pd.read_csv(whole / "ft-m.csv")}, "tiny")
    write_table(tmp_path / "sequential_edits.csv", table)
    check_table(tmp_path / "sequential_edits.csv")


def test_a_killed_job_of_a_data_set_does_no_case_twice(
    edited: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite = {"prompt": "the language of {} is", "subject": "Peru", "target_new": {"str": "French"}}
    cases = [
        {"case_id": number, "requested_rewrite": [rewrite], "questions": ["people in Peru speak"]}
        | {"answer": "Spanish", "new_answer": "French", "new_answer_alias": []}
        for number in range(2)
    ]
    (tmp_path / "cases.json").write_text(json.dumps(cases), "utf-8")
    params = SimpleNamespace(
        load_options={"dtype": "float32", "processing": "none"},
        settings={"ft-m": {"steps": 2}},
        asked={"cases": 2, "tokens": 3},
        code="code",
    )
    job = SimpleNamespace(
        input=SimpleNamespace(**vars(edited), cases=str(tmp_path / "cases.json")),
        output=SimpleNamespace(rows=str(tmp_path / "rows.csv")),
        params=params,
        wildcards=SimpleNamespace(benchmark="mquake-t"),
    )
    real, asked = ask_benchmark.ask_case, []

    def stops_at_the_second(model: Any, case: Any, *others: Any) -> Any:
        asked.append(case.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(model, case, *others)

    monkeypatch.setattr(ask_benchmark, "ask_case", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ask_benchmark.main(job)
    ask_benchmark.main(job)
    assert asked == ["mquake-t/0", "mquake-t/1", "mquake-t/1"]
    rows = read_table(tmp_path / "rows.csv")
    assert rows["editor"].tolist() == ["none", "ft-m"] * 2
    write_table(tmp_path / "edit_portability.csv", portability_table(rows, 10, ["ft-m"], "tiny"))
    check_table(tmp_path / "edit_portability.csv")


def test_the_scores_of_all_relations_are_a_sound_table(tmp_path: Path, folders: dict[str, Path]) -> None:
    provenance = folders["llama"] / "provenance.json"
    write_json(provenance, {"weights_sha256": "tiny"})
    facts = (
        ("France", "Paris", "val"),
        ("Italy", "Rome", "val"),
        ("Spain", "Madrid", "test"),
        ("Peru", "Lima", "test"),
    )
    rows = [
        {"category": "own", "relation": relation, "wording": f"the {relation} of {{}} is"}
        | {"subject": subject, "object": found, "split": split}
        for relation in ("capital", "city")
        for subject, found, split in facts
    ]
    graph = Graph.of(load(folders["llama"]).transformer.shape, "grouped")
    for number, method in enumerate(("eap", "acdc")):
        circuits = {name: Circuit(method, random_circuit(graph, 40, number), None) for name in ("capital", "city")}
        save_circuits(tmp_path / f"{method}.npz", circuits)

    def job(relation: str) -> Any:
        params = SimpleNamespace(
            **{"load_options": {"dtype": "float32", "processing": "none"}, "kv": "grouped"},
            **{
                "circuits": [{"method": "eap"}, {"method": "acdc", "criterion": {"tau": 0.1}}],
                "hits": 10,
                "random_seeds": 2,
                "seed": 0,
                "code": "code",
            },
        )
        given = SimpleNamespace(model=str(provenance), facts=str(tmp_path / f"{relation}.parquet"))
        given.circuits = [str(tmp_path / f"{method}.npz") for method in ("eap", "acdc")]
        output = SimpleNamespace(scores=str(tmp_path / f"{relation}.csv"))
        return SimpleNamespace(input=given, output=output, params=params, wildcards=SimpleNamespace(relation=relation))

    survey = pd.DataFrame(rows)
    write_table(tmp_path / "empty.parquet", survey.iloc[:0])  # left out
    for relation in ("capital", "empty", "city"):
        if relation != "empty":
            write_table(tmp_path / f"{relation}.parquet", survey[survey.relation == relation])
        evaluate_circuits.main(job(relation))
    parts = [str(tmp_path / f"{relation}.csv") for relation in ("capital", "empty", "city")]
    gather_tables.main(SimpleNamespace(input={"scores": parts}, output={"scores": str(tmp_path / "whole.csv")}))
    none_found = tmp_path / "none_found.csv"
    none_found.write_text("relation,head\n", "utf-8")
    given = {"heads": [parts[1], str(none_found)]}
    gather_tables.main(SimpleNamespace(input=given, output={"heads": str(tmp_path / "heads.csv")}))
    assert (tmp_path / "heads.csv").read_text() == "relation,head\n"  # measured, and none found
    with pytest.raises(ValueError, match="nothing was measured for any relation"):
        gather_tables.main(SimpleNamespace(input={"scores": parts[1:2]}, output={"scores": str(tmp_path / "none.csv")}))
    one_fact = pd.read_csv(tmp_path / "whole.csv").query("ablation == 'zero'").head(1).assign(method="acdc, one fact")
    write_table(tmp_path / "showcase.csv", one_fact)
    tables = (read_table(tmp_path / name) for name in ("whole.csv", "showcase.csv"))
    write_table(tmp_path / "circuit_hit_at_10.csv", circuit_table(*tables, "tiny"))
    check_table(tmp_path / "circuit_hit_at_10.csv")
    table = pd.read_csv(tmp_path / "circuit_hit_at_10.csv")
    assert table["relation"].tolist() == ["capital", "capital", "city", "city"] * 2 + ["all"] * 4 + ["capital"]
