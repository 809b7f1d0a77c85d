"""Relation tables: the built-in ones, what is refused, and the reader of LRE files."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from inputs.running import RELATION as GOOD
from knowcirc.facts.relations import CATEGORIES, Fact, read_lre, read_relation, read_relations
from knowcirc.facts.sources import SOURCES, Source

ROOT = Path(__file__).parents[2]
FACTS = ROOT / "config" / "facts"
FILES = sorted(FACTS.glob("*.yaml"))
OPEN = (
    "person_instrument",
    "name_religion",
    "object_superclass",
    "person_native_language",
    "substance_phase",
    "landmark_continent",
)


def save(folder: Path, data: object) -> Path:
    path = folder / "capital.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_built_in_relation_loads_with_enough_facts(path: Path) -> None:
    relation = read_relation(path)
    assert len(relation.facts) >= (60 if path.stem in OPEN else 20)
    assert len(relation.objects) >= 2
    for fact in relation.facts:
        assert fact.subject == fact.subject.strip() != ""
        assert fact.object == fact.object.strip() != ""
    for template in relation.templates:
        assert len({template.format(fact.subject) for fact in relation.facts}) == len(relation.facts)


def test_the_built_in_relations_cover_the_four_categories() -> None:
    counts = Counter(read_relation(path).category for path in FILES)
    assert set(counts) == set(CATEGORIES)
    assert counts.total() >= 20
    assert set(OPEN) <= {path.stem for path in FILES}


def test_relation_words_stand_in_some_template() -> None:
    for path in FILES:
        relation = read_relation(path)
        sentences = " ".join((*relation.templates, relation.question_template or "")).lower()
        assert [word for word in relation.relation_words if word.lower() not in sentences] == [], path.name


def test_objects_are_listed_once_in_order_of_appearance(tmp_path: Path) -> None:
    facts = [["Mexico", "Spanish"], ["France", "French"], ["Spain", "Spanish"]]
    relation = read_relation(save(tmp_path, GOOD | {"facts": facts}))
    assert relation.objects == ("Spanish", "French")
    assert relation.facts[1] == Fact("France", "French")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"colour": "red"}, r"unknown keys \['colour'\]"),
        ({"category": "magic"}, "category 'magic' is none of"),
        ({"name": "capitol"}, "name 'capitol' is not the file's name"),
        ({"templates": ["The capital is", "{} has", "In {}"]}, "template 'The capital is' must hold"),
        ({"templates": ["{} or {}", "{} has", "In {}"]}, "must hold {} once"),
        ({"templates": ["The capital of {} is ", "{} has", "In {}"]}, "no space at its ends"),
        ({"templates": ["The capital of {} is"]}, "1 templates; at least 3"),
        ({"question_template": "What is the capital?"}, "must hold {} once"),
        ({"reverse_template": "the capital of"}, "must hold {} once"),
        ({"facts": [["France", "Paris"], ["France", "Lyon"]]}, r"subjects \['France'\] stand twice"),
        ({"facts": [["Norway", True]]}, r"\['Norway', True\] is not a \[subject, object\] pair of texts"),
        ({"facts": [["France", 1789]]}, "pair of texts"),
        ({"facts": [["France"]]}, "pair of texts"),
        ({"facts": ["France"]}, "pair of texts"),
    ],
)
def test_a_wrong_relation_is_refused_by_file_and_reason(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        read_relation(save(tmp_path, GOOD | change))
    assert "capital.yaml" in str(error.value)


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"missing keys \['{key}'\]"):
        read_relation(save(tmp_path, {k: v for k, v in GOOD.items() if k != key}))


@pytest.mark.parametrize("text", ["- a list", "name: [unclosed", "just words", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "capital.yaml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"capital\.yaml: (no valid YAML|a mapping with the keys)"):
        read_relation(tmp_path / "capital.yaml")


@pytest.mark.parametrize("key", ["templates", "facts", "relation_words"])
def test_a_text_or_nothing_where_a_list_belongs_is_refused(tmp_path: Path, key: str) -> None:
    for value in ("{} is", None):
        with pytest.raises(ValueError, match=r"capital\.yaml"):
            read_relation(save(tmp_path, GOOD | {key: value}))


def test_an_unquoted_no_is_caught_as_a_boolean(tmp_path: Path) -> None:
    text = yaml.safe_dump(GOOD | {"facts": []}).replace("facts: []", "facts:\n- [no, Oslo]")
    (tmp_path / "capital.yaml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"\[False, 'Oslo'\] .* \(quote them\)"):
        read_relation(tmp_path / "capital.yaml")


LRE = {
    "name": "country capital city",
    "prompt_templates": ["The capital of {} is", "In {}, the seat of power is"],
    "prompt_templates_zs": ["The capital city of {} is", "The capital of {} is"],
    "properties": {
        "relation_type": "factual",
        "domain_name": "country",
        "range_name": "city",
        "symmetric": False,
    },
    "samples": [
        {"subject": "France", "object": "Paris"},
        {"subject": "Italy", "object": "Rome"},
        {"subject": "France", "object": "Lyon"},
    ],
}


EXAMPLES = {"builtin": ("capital.yaml", yaml.safe_dump(GOOD)), "lre": ("capital.json", json.dumps(LRE))}
"""A file of each source: its name and its text."""


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_a_source_finds_its_relations_and_reads_its_files(source: Source, tmp_path: Path) -> None:
    rows = [line.split("\t")[0] for line in (ROOT / "config/datasets.tsv").read_text("utf-8").splitlines()]
    found = source.relations(ROOT, [row for row in rows if "/" in row])
    assert len(found) > 10
    assert all(Path(path).stem == name for name, path in found.items())
    assert all(path.startswith("<results>/") or (ROOT / path).is_file() for path in found.values())
    name, text = EXAMPLES[source.name]
    (tmp_path / name).write_text(text, "utf-8")
    (relation,) = read_relations(source.name, [str(tmp_path / name)]).values()
    assert (relation.name, relation.category) == ("capital", "factual")
    assert Fact("France", "Paris") in relation.facts
    (tmp_path / name).write_text("[]", "utf-8")
    with pytest.raises(ValueError, match=name):
        read_relations(source.name, [str(tmp_path / name)])


def test_an_lre_file_gives_its_zero_shot_templates_first_and_the_first_fact_of_a_subject(tmp_path: Path) -> None:
    path = tmp_path / "capital_city.json"
    path.write_text(json.dumps(LRE), "utf-8")
    relation = read_lre(path)
    assert relation.name == "capital_city"
    assert relation.templates == (
        "The capital city of {} is",
        "The capital of {} is",
        "In {}, the seat of power is",
    )
    assert (relation.category, relation.subject_type, relation.answer_type) == ("factual", "country", "city")
    assert set(relation.facts) == {Fact("France", "Paris"), Fact("Italy", "Rome")}
    assert len(relation.facts) == 2
    spaced = [{"subject": "Peru ", "object": " Lima "}, {"subject": "Peru", "object": "Cusco"}]
    path.write_text(json.dumps(LRE | {"samples": spaced}), "utf-8")  # LRE has such
    assert read_lre(path).facts == (Fact("Peru", "Lima"),)


@pytest.mark.parametrize(
    "text", ["", "[]", json.dumps({k: v for k, v in LRE.items() if k != "samples"}), '{"properties": 3}']
)
def test_a_file_that_is_no_lre_relation_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"x\.json: no LRE relation"):
        read_lre(tmp_path / "x.json")


@pytest.mark.parametrize("key", ["relation_type", "domain_name", "range_name"])
def test_an_lre_file_without_a_property_is_refused_by_name(tmp_path: Path, key: str) -> None:
    properties = {k: v for k, v in LRE["properties"].items() if k != key}  # type: ignore[attr-defined]
    (tmp_path / "x.json").write_text(json.dumps(LRE | {"properties": properties}), "utf-8")
    with pytest.raises(ValueError, match=rf"x.json: no LRE relation .*{key}"):
        read_lre(tmp_path / "x.json")
