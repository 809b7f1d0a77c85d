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

import compare_both_ways
import compare_hops
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
COMPARISONS = {"hops": compare_hops, "both_ways": compare_both_ways}
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
    return SimpleNamespace(
        model=str(provenance), relations=paths, relation=str(tmp_path / "country_capital.yaml"), circuits=str(circuits)
    )


def job(inputs: SimpleNamespace, name: str, folder: Path) -> Any:
    """A job of study_hops or study_reverse_relations."""
    params = SimpleNamespace(
        load_options={"dtype": "float32", "processing": "none"},
        kv="grouped",
        source="builtin",
        circuits={"method": "eap", "share": 0.2},
        composition=COMPOSITION,
        template=None,
        facts=3,
        d_val=2,
        seed=0,
        code="code",
    )
    output = SimpleNamespace(answers=str(folder / "answers.json"), circuits=str(folder / "circuits.npz"))
    wildcards = SimpleNamespace(relation="country_capital")
    return SimpleNamespace(input=inputs, output=output, params=params, wildcards=wildcards)


def comparison(inputs: SimpleNamespace, name: str, folder: Path) -> pd.DataFrame:
    """What compare_hops or compare_both_ways makes of a job's files."""
    given = SimpleNamespace(
        model=inputs.model,
        answers=[str(folder / "answers.json")],
        studied=[str(folder / "circuits.npz")],
        circuits=inputs.circuits,
    )
    params = SimpleNamespace(kv="grouped", method="eap", hits=10, direct={})
    output = SimpleNamespace(**{name: str(folder / "table.csv")})
    COMPARISONS[name].main(SimpleNamespace(input=given, params=params, output=output))
    return pd.read_csv(folder / "table.csv")


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_job_loses_one_search_and_ends_the_same(
    inputs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script: ModuleType
    script, n_searches = JOBS[name]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
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
    assert not (cut / "circuits.npz").exists()
    script.main(job(inputs, name, cut))
    assert searches[0] == n_searches + 1
    assert not list(cut.glob("*.parts"))
    table = comparison(inputs, name, whole)
    pd.testing.assert_frame_equal(comparison(inputs, name, cut), table, check_exact=True)
    ceilings = {"hops": ["second_again", "first_again"], "both_ways": ["same_way"]}[name]
    assert [0 <= table.iloc[0][f"edges_{one}"] <= 1 for one in ceilings] == [True, False][: len(ceilings)]
