"""The survey of what a model knows, on tiny models: ranks, wrong answers of the right type, splits, and draws."""

from collections.abc import Callable

import pandas as pd
import pytest

from knowcirc.facts.relations import Fact, Relation
from knowcirc.facts.survey import draw_in_turn, fact_row, known_facts_table, prompts_of, split_rows, survey_relation
from knowcirc.models.loading import LanguageModel
from unit import reference

Loader = Callable[..., LanguageModel]
SUBJECTS = ("France", "Italy", "Spain", "Peru", "Chile", "New Zealand")
TEMPLATES = ("the capital of {} is", "people in {} speak", "{} lies in the city of")


def probabilities(model: LanguageModel, text: str) -> list[float]:
    """The network's own probabilities of the token after a text."""
    ids = model.batch([tuple(model.text.encode(text).ids)])
    return reference.logits(reference.network(model), ids)[0, -1].softmax(-1).tolist()


def top_word(model: LanguageModel, text: str) -> str:
    p = probabilities(model, text)
    return str(model.text.decode([p.index(max(p))]))


def relation(objects: list[str]) -> Relation:
    facts = tuple(Fact(*pair) for pair in zip(SUBJECTS, objects, strict=True))
    return Relation("capital", "factual", "country", "city", TEMPLATES, None, None, (), facts)


@pytest.fixture
def queried(model: LanguageModel) -> Relation:
    """Facts of which the model gets the first right and the third wrong, with the first or the second one's object."""
    tops = [top_word(model, TEMPLATES[0].format(subject)) for subject in SUBJECTS]
    spare = [word for word in ("Paris", "Rome", "Madrid", "Lima", "w60", "w61", "w62", "w63") if word not in tops]
    objects = [f"{tops[0]} Pisin", *spare[:5]]
    if tops[2] != tops[0]:
        objects[1] = f"{tops[2]} Pisin"
    return relation(objects)


def surveyed(model: LanguageModel, queried: Relation, templates: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    return survey_relation(model, queried, templates, hits=101, d_val=3, d_test=2, seed=0)


def test_every_fact_is_asked_in_every_wording(model: LanguageModel, queried: Relation) -> None:
    frame = surveyed(model, queried, (0, 2))
    names = "relation category answer_type template wording fact subject object rank p top p_top wrong split val_rank"
    assert list(frame) == names.split()
    assert frame["template"].tolist() == [0] * 6 + [2] * 6
    assert frame["fact"].tolist() == 2 * list(range(6))
    assert set(zip(frame["template"], frame["wording"], strict=True)) == {(0, TEMPLATES[0]), (2, TEMPLATES[2])}
    assert (frame["relation"] == "capital").all()


def test_a_wording_that_a_relation_lacks_is_replaced_by_its_last(model: LanguageModel, queried: Relation) -> None:
    assert set(surveyed(model, queried, (0, 7))["template"]) == {0, 2}
    assert surveyed(model, queried, (0, 2, 7))["template"].tolist() == [0] * 6 + [2] * 6


def test_ranks_and_probabilities_are_the_networks(model: LanguageModel, queried: Relation) -> None:
    for row in surveyed(model, queried).itertuples():
        p = probabilities(model, row.wording.format(row.subject))
        answer = model.text.encode(row.object.split()[0], add_special_tokens=False).ids[0]
        assert row.p == pytest.approx(p[answer], rel=1e-9)
        assert row.rank == sum(value > p[answer] for value in p)
        assert row.p_top == pytest.approx(max(p), rel=1e-9)
        assert row.top == model.text.decode([p.index(max(p))])


def test_an_answer_is_wrong_of_the_right_type_only_if_it_begins_another_object(
    model: LanguageModel, queried: Relation
) -> None:
    frame = surveyed(model, queried)
    first = {text.split()[0]: text for text in queried.objects}
    for row in frame.itertuples():
        named = first.get(row.top, "")
        assert row.wrong == ("" if named == row.object else named)
    assert frame["rank"].iloc[0] == 0
    assert frame["wrong"].iloc[0] == ""
    assert frame["wrong"].iloc[2] == f"{frame['top'].iloc[2]} Pisin"  # the whole object, not its first token


def test_a_wrong_answer_that_begins_two_objects_is_no_ones(model: LanguageModel, queried: Relation) -> None:
    plain = surveyed(model, queried)
    named = plain[(plain["wrong"] != "") & (plain["template"] == 0)].iloc[0]
    first = str(named["wrong"]).split()[0]
    twin = next(i for i, fact in enumerate(queried.facts) if fact.object not in (named["wrong"], named["object"]))
    objects = [f"{first} Guinea" if i == twin else fact.object for i, fact in enumerate(queried.facts)]
    alike = surveyed(model, relation(objects))
    assert alike.loc[named.name, "top"] == named["top"]
    assert alike.loc[named.name, "wrong"] == ""
    assert len(alike) == len(plain)  # its facts are kept


def test_splits_are_drawn_on_the_first_wording_alone(model: LanguageModel, queried: Relation) -> None:
    frame = surveyed(model, queried)
    first, other = frame[frame.template == 0], frame[frame.template == 1]
    assert first["split"].value_counts().to_dict() == {"val": 3, "test": 2, "": 1}
    assert set(first["val_rank"]) == {100}  # one or two facts rank first, three are asked for
    assert set(other["split"]) == {""}
    assert set(other["val_rank"]) == {-1}
    assert len(split_rows(frame, "capital", "val")) == 3


def test_d_val_comes_from_the_facts_that_rank_first_where_these_suffice(
    model: LanguageModel, queried: Relation
) -> None:
    frame = survey_relation(model, queried, [0], hits=101, d_val=1, d_test=2, seed=0)
    first = frame["rank"] == 0
    assert 1 <= first.sum() < 6
    assert (frame.loc[frame.split == "val", "rank"] == 0).all()
    assert set(frame["val_rank"]) == {0}


def test_another_seed_draws_another_split(model: LanguageModel, queried: Relation) -> None:
    splits = {
        tuple(survey_relation(model, queried, [0], hits=101, d_val=2, d_test=3, seed=seed)["split"])
        for seed in range(8)
    }
    assert len(splits) > 2


def test_prompts_are_those_of_the_rows(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    queried = relation(["Paris", "Rome", "Madrid", "Lima", "Santiago", "Wellington"])
    row = fact_row(surveyed(model, queried), "capital", "New Zealand", "New people in {} speak")
    (prompt,) = prompts_of(model, row)
    assert prompt.text == "New people in New Zealand speak"
    assert prompt.answer_text == "Wellington"
    assert prompt.span == (4, 6)


def test_a_subject_that_the_relation_lacks_is_named(load_tiny: Loader) -> None:
    queried = relation(["Paris", "Rome", "Madrid", "Lima", "Santiago", "Wellington"])
    frame = surveyed(load_tiny("gpt2"), queried)
    with pytest.raises(ValueError, match="showcase: relation capital has no subject 'Papua'; choose one of its file"):
        fact_row(frame, "capital", "Papua", TEMPLATES[0])
    with pytest.raises(ValueError, match="relation language has no subject 'Peru'"):
        fact_row(frame, "language", "Peru", TEMPLATES[0])


def hand_made() -> pd.DataFrame:
    """Rows of two relations, the first asked in a second wording as well."""
    rows = [
        # relation, template, rank, p, split, wrong, val_rank
        ("b", 0, 0, 0.5, "val", "", 0),
        ("b", 0, 9, 0.1, "test", "x", 0),
        ("b", 0, 10, 0.0, "test", "y", 0),
        ("b", 0, 1, 0.2, "", "", 0),
        ("b", 1, 0, 0.9, "", "z", -1),
        ("a", 0, 3, 0.3, "val", "", 9),
        ("a", 0, 4, 0.1, "test", "", 9),
    ]
    frame = pd.DataFrame(rows, columns=["relation", "template", "rank", "p", "split", "wrong", "val_rank"])
    return frame.assign(category=frame["relation"].map({"a": "factual", "b": "bias"}), wording="w {}")


def test_the_table_of_known_facts_counts_the_first_wording() -> None:
    table = known_facts_table(hand_made(), "tiny", hits=10)
    assert table["relation"].tolist() == ["b", "a"]  # by category
    bias, factual = (row._asdict() for row in table.itertuples(index=False))
    expected = {"n": 4, "hit_at_1": 0.25, "hit_at_10": 0.75, "p_answer": 0.2, "n_val": 1, "n_test": 2}
    assert {key: bias[key] for key in expected} == pytest.approx(expected)
    assert (bias["n_wrong_of_right_type"], bias["val_drawn_from"]) == (2, "rank 1")
    assert (factual["hit_at_1"], factual["hit_at_10"], factual["n"]) == (0.0, 1.0, 2)
    assert (factual["n_wrong_of_right_type"], factual["val_drawn_from"]) == (0, "rank 1 to 10")
    for name in ("hit_at_1", "hit_at_10", "p_answer"):
        assert (table[f"{name}_low"] <= table[name]).all()
        assert (table[name] <= table[f"{name}_high"]).all()
    assert "hit_at_5" in known_facts_table(hand_made(), "tiny", hits=5)


def many() -> pd.DataFrame:
    rows = [(name, number) for name, n in (("a", 6), ("b", 2), ("c", 9)) for number in range(n)]
    return pd.DataFrame(rows, columns=["relation", "fact"])


def test_rows_are_drawn_from_the_relations_in_turn() -> None:
    drawn = draw_in_turn(many(), ["c", "a"], 7, seed=0)
    assert drawn["relation"].tolist() == ["c", "a", "c", "a", "c", "a", "c"]
    assert not drawn.duplicated().any()
    assert list(drawn) == ["relation", "fact"]


def test_a_relation_that_has_no_more_leaves_its_turn_to_the_others() -> None:
    drawn = draw_in_turn(many(), ["b", "c"], 6, seed=0)
    assert drawn["relation"].tolist() == ["b", "c", "b", "c", "c", "c"]
    everything = draw_in_turn(many(), ["a", "b"], 20, seed=0)
    assert len(everything) == 8
    assert set(everything["relation"]) == {"a", "b"}


def test_a_draw_in_turn_is_one_of_its_seed() -> None:
    draws = [draw_in_turn(many(), ["a", "c"], 8, seed=seed) for seed in (1, 1, 2**62 + 5)]
    pd.testing.assert_frame_equal(draws[0], draws[1])
    assert draws[0]["fact"].tolist() != draws[2]["fact"].tolist()
    assert draws[0]["fact"].tolist() != [0, 0, 1, 1, 2, 2, 3, 3]
