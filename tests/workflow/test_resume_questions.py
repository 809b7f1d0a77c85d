"""Jobs that find one circuit per kind of question: cut short they lose one search, and end as those that ran
through."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml

import study_hops
import study_reverse_relations
from knowcirc.circuits import kept
from knowcirc.circuits.discovery import Circuit
from knowcirc.circuits.export import save_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.random_circuits import random_circuit
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import Prompt
from knowcirc.files import write_json
from knowcirc.models.loading import LanguageModel, load

RELATIONS = {
    "city_country": ("the city of {} lies in", None, [["Paris", "France"], ["Rome", "Italy"], ["Madrid", "Spain"]]),
    "country_capital": (
        "the capital of {} is",
        "{} is the capital of",
        [["France", "Paris"], ["Italy", "Rome"], ["Spain", "Madrid"]],
    ),
}
COMPOSITION = {"first": "city_country", "second": "country_capital", "phrase": "the country of the city {}"}
JOBS = {"hops": (study_hops, 3), "both_ways": (study_reverse_relations, 2)}  # the script, and how many it searches


def write_relation(folder: Path, name: str) -> Path:
    """A relation's file."""
    template, reverse, facts = RELATIONS[name]
    words = {"name": name, "category": "factual", "subject_type": "thing", "answer_type": "thing", "facts": facts}
    path = folder / f"{name}.yaml"
    wordings: dict[str, object] = {"templates": [template] * 3, "question_template": template}
    path.write_text(yaml.safe_dump(words | wordings | ({"reverse_template": reverse} if reverse else {})), "utf-8")
    return path


@pytest.fixture
def inputs(tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A tiny model that is said to know every fact, two relations, and the circuit of one of them."""

    def known(model: LanguageModel, prompts: Sequence[Prompt]) -> list[object]:
        return [replace(answer, rank=0) for answer in answer_prompts(model, prompts)]

    for module in ("hops", "reverse"):
        monkeypatch.setattr(f"knowcirc.behaviours.{module}.answer_prompts", known)
    provenance = folders["llama"] / "provenance.json"
    write_json(provenance, {"weights_sha256": "tiny"})
    graph = Graph.of(load(folders["llama"], device="cpu").transformer.shape, "grouped")
    circuits = tmp_path / "circuits.npz"
    save_circuits(circuits, {"country_capital": Circuit("eap", random_circuit(graph, 40, 0), None)})
    paths = [str(write_relation(tmp_path, name)) for name in RELATIONS]
    return SimpleNamespace(model=str(provenance), relations=paths, circuits=[str(circuits)])


def job(inputs: SimpleNamespace, name: str, output: Path) -> Any:
    """A job of study_hops or study_reverse_relations."""
    params = SimpleNamespace(
        load_options={"dtype": "float32", "processing": "none"},
        kv="grouped",
        source="builtin",
        circuits={"method": "eap", "share": 0.2},
        hops={"facts": 3, "d_val": 2, "compositions": [COMPOSITION]},
        both_ways={"relations": ["country_capital"], "templates": {}, "facts": 3, "d_val": 2},
        hits=10,
        seed=0,
        code="code",
    )
    return SimpleNamespace(input=inputs, output=SimpleNamespace(**{name: str(output)}), params=params)


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_job_loses_one_search_and_ends_the_same(
    inputs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script: ModuleType
    script, n_searches = JOBS[name]
    whole, cut = tmp_path / "whole.csv", tmp_path / "cut.csv"
    script.main(job(inputs, name, whole))
    searches, real = [0], kept.find_circuit

    def stops_at_the_second(*arguments: Any, **options: Any) -> Any:
        searches[0] += 1
        if searches[0] == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(kept, "find_circuit", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        script.main(job(inputs, name, cut))
    assert not cut.exists()
    script.main(job(inputs, name, cut))
    assert searches[0] == n_searches + 1
    pd.testing.assert_frame_equal(pd.read_csv(cut), pd.read_csv(whole), check_exact=True)
    assert not list(tmp_path.glob("*.parts"))
    row = pd.read_csv(whole).iloc[0]
    ceilings = {"hops": ["second_again", "first_again"], "both_ways": ["same_way"]}[name]
    assert [0 <= row[f"edges_{one}"] <= 1 for one in ceilings] == [True, False][: len(ceilings)]
