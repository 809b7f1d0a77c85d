"""Splits of a relation's facts, and editing records: who is drawn, and that the order of work changes nothing."""

import json
from dataclasses import replace

import pytest

from knowcirc.facts.knowledge import split_facts
from knowcirc.facts.records import Record, build_record, choose_records
from knowcirc.facts.relations import Fact, Relation

KNOWN_EVERY_THIRD = [0 if index % 3 == 0 else 5 + index for index in range(60)]


def relation(name: str, n: int = 24, n_objects: int = 4) -> Relation:
    return Relation(
        name=name,
        category="factual",
        subject_type="thing",
        answer_type="thing",
        templates=("the {} is", "of {} comes", "with {} goes"),
        question_template=None,
        reverse_template=None,
        relation_words=(),
        facts=tuple(Fact(f"{name} {index}", f"object {index % n_objects}") for index in range(n)),
    )


def test_splits_share_no_fact_and_have_the_sizes_asked_for() -> None:
    split = split_facts(KNOWN_EVERY_THIRD, 10, 20, 10, 0)
    assert (len(split.val), len(split.test)) == (10, 20)
    assert len({*split.val, *split.test}) == 30


def test_val_facts_are_known_and_test_facts_need_not_be() -> None:
    split = split_facts(KNOWN_EVERY_THIRD, 10, 20, 10, 0)
    assert split.val_rank == 0
    assert all(KNOWN_EVERY_THIRD[index] == 0 for index in split.val)
    assert any(KNOWN_EVERY_THIRD[index] == 0 for index in split.test)
    assert any(KNOWN_EVERY_THIRD[index] > 0 for index in split.test)


def test_where_the_ten_best_count_as_known_val_holds_such_facts_though_enough_rank_first() -> None:
    ranks = [0] * 10 + [9] * 10 + [10] * 10
    split = split_facts(ranks, 15, 10, 10, 0, "hit10")
    assert split.val_rank == 9
    assert {ranks[index] for index in split.val} == {0, 9}
    assert split_facts(ranks, 8, 10, 10, 0, "rank1").val_rank == 0
    assert {ranks[index] for index in split_facts(ranks, 8, 10, 10, 0, "rank1").val} == {0}


def test_a_split_is_a_draw_of_its_seed() -> None:
    assert split_facts(KNOWN_EVERY_THIRD, 10, 20, 10, 1) == split_facts(KNOWN_EVERY_THIRD, 10, 20, 10, 1)
    assert split_facts(KNOWN_EVERY_THIRD, 10, 20, 10, 1) != split_facts(KNOWN_EVERY_THIRD, 10, 20, 10, 2)
    assert list(split_facts([0] * 60, 10, 20, 10, 0).val) != list(range(10))


def test_too_few_facts_shrink_both_parts_in_proportion() -> None:
    split = split_facts([0] * 15, 10, 20, 10, 0)
    assert (len(split.val), len(split.test)) == (5, 10)
    tiny = split_facts([0, 0], 10, 20, 10, 0)
    assert (len(tiny.val), len(tiny.test)) == (1, 1)


def test_where_too_few_rank_first_val_comes_from_the_ten_best() -> None:
    ranks = [0, 0, *range(1, 31)]
    split = split_facts(ranks, 6, 10, 10, 3)
    assert split.val_rank == 9
    assert len(split.val) == 6
    assert all(ranks[index] <= 9 for index in split.val)
    assert not set(split.val) & set(split.test)


def test_nobody_known_gives_an_empty_val_and_a_full_test() -> None:
    split = split_facts([500] * 40, 10, 20, 10, 0)
    assert (len(split.val), len(split.test)) == (0, 20)


def built(index: int = 5, prefixes: tuple[str, ...] = ("Once upon a time.",), seed: int = 0) -> Record:
    record = build_record(relation("r"), index, n_neighbours=3, prefixes=prefixes, seed=seed)
    assert record is not None
    return record


def test_neighbours_share_the_true_object_and_the_new_one_differs() -> None:
    facts = {f"the {fact.subject} is": fact.object for fact in relation("r").facts}
    for index in range(24):
        record = built(index)
        assert record.prompt not in record.neighbours
        assert [facts[prompt] for prompt in record.neighbours] == [record.target_true] * 3
        assert len(set(record.neighbours)) == 3
        assert record.target_new in {fact.object for fact in relation("r").facts} - {record.target_true}


def test_paraphrases_ask_for_the_same_subject_otherwise() -> None:
    record = built()
    assert record.prompt == "the r 5 is"
    assert record.paraphrases == ("of r 5 comes", "with r 5 goes", "Once upon a time. the r 5 is")
    assert built(prefixes=()).paraphrases == ("of r 5 comes", "with r 5 goes")
    assert record.generation == ("of r 5 comes", "with r 5 goes")


def test_references_are_about_other_subjects_with_the_new_object() -> None:
    record = built()
    owners = {fact.subject for fact in relation("r").facts if fact.object == record.target_new}
    assert len(record.references) == 3 * len(owners)
    assert all(text.endswith(f" {record.target_new}.") for text in record.references)
    assert {subject for subject in owners if any(f"{subject} " in text for text in record.references)} == owners


def test_a_relation_that_gives_no_neighbour_or_no_other_object_gives_no_record() -> None:
    assert build_record(relation("r", 4, 4), 0, n_neighbours=3, prefixes=(), seed=0) is None
    assert build_record(relation("r", 4, 1), 0, n_neighbours=3, prefixes=(), seed=0) is None


def test_an_object_is_not_replaced_by_one_that_begins_with_the_same_token() -> None:
    found = relation("r")
    first, second, third = found.objects[:3]
    for index, fact in enumerate(found.facts):
        record = build_record(found, index, n_neighbours=1, prefixes=(), seed=0, alike=[[first, second]])
        assert record is not None
        assert record.target_new != fact.object
        assert {record.target_new, fact.object} != {first, second}
    assert build_record(relation("r", 8, 2), 0, n_neighbours=1, prefixes=(), seed=0, alike=[[first, second]]) is None
    known = {"r": {fact.subject for fact in found.facts}}
    alike = {"r": [[first, second, third]]}
    chosen = choose_records([found], known, 3, n_neighbours=1, prefixes=(), seed=0, alike=alike)
    assert all(len({one.target_new, one.target_true} & {first, second, third}) < 2 for one in chosen)


def test_a_record_survives_its_json() -> None:
    assert Record.from_json(built().as_json()) == built()


def test_new_objects_depend_on_the_seed() -> None:
    assert [built(i, seed=0).target_new for i in range(24)] != [built(i, seed=1).target_new for i in range(24)]


def chosen(names: str, n: int = 12, **other: object) -> list[Record]:
    relations = [relation(name) for name in names]
    known = {name: {fact.subject for fact in relation(name).facts} for name in names}
    settings: dict[str, object] = {"n_neighbours": 3, "prefixes": ("w",), "seed": 0}
    return choose_records(relations, known, n, **(settings | other))  # type: ignore[arg-type]


def test_records_are_drawn_from_the_relations_in_turn() -> None:
    records = chosen("abc")
    assert [record.relation for record in records] == ["a", "b", "c"] * 4
    assert len({record.case for record in records}) == 12


def test_the_order_and_company_of_relations_change_no_relations_records() -> None:
    alone = {record.case: record for record in chosen("a", 4)}
    several = (replace(record, unrelated=()) for record in chosen("cba", 12))
    with_others = {record.case: record for record in several if record.relation == "a"}
    assert alone == with_others


def test_only_known_facts_are_edited() -> None:
    known = {"a": {"a 1", "a 5", "a 9", "a 13"}}
    records = choose_records([relation("a")], known, 3, n_neighbours=3, prefixes=(), seed=0)
    assert {record.subject for record in records} <= known["a"]


def test_asking_for_more_records_than_there_are_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"50 asked for, the relations give 24 with 3 neighbours"):
        chosen("a", 50)
    with pytest.raises(ValueError, match=r"1 asked for, the relations give 0 with 6 neighbours"):
        chosen("a", 1, n_neighbours=6)


def test_records_ask_about_unrelated_facts_of_different_relations() -> None:
    relations = [relation("a"), relation("b"), relation("c")]
    known = {each.name: {fact.subject for fact in each.facts} for each in relations}
    records = choose_records(relations, known, 6, n_neighbours=2, prefixes=[], seed=0)
    for record in records:
        assert len(record.unrelated) == 2
        owners = [text.removeprefix("the ")[0] for text, _ in record.unrelated]
        assert len(set(owners)) == 2
        assert record.relation not in owners
    assert choose_records(relations, known, 8, n_neighbours=2, prefixes=[], seed=0)[:6] == records


def test_a_records_question_is_the_relations() -> None:
    asking = replace(relation("a"), question_template="Question: which {}? Answer:")
    record = build_record(asking, 3, n_neighbours=2, prefixes=[], seed=0)
    assert record is not None
    assert record.question == "Question: which a 3? Answer:"
    assert Record.from_json(json.loads(json.dumps(record.as_json()))) == record
