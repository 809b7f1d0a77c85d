"""Editing in context: what stands before a prompt, that the model is asked behind it, and what is left out of it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from knowcirc.configuration.checks import reference_errors
from knowcirc.configuration.study import Study
from knowcirc.edited.asking import continuations
from knowcirc.editing.edits import Edit, Material, Request, applied, request
from knowcirc.editing.evaluation import fit_vectorizer, generate, read_said
from knowcirc.editing.in_context import KINDS, demonstrations
from knowcirc.editing.making import make_edit, make_edits
from knowcirc.editing.scoring import edit_record
from knowcirc.facts.records import Record
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.heads import observe
from unit import reference

Loader = Callable[..., LanguageModel]
pytestmark = pytest.mark.many(3, one_in=4)
FACTS = (("Peru", "Lima"), ("Chile", "Santiago"), ("Spain", "Madrid"), ("Italy", "Rome"))


def record(subject: str, true: str, relation: str = "capital", new: str = "Paris") -> Record:
    return Record(
        case=f"{relation}/{subject}",
        relation=relation,
        subject=subject,
        template=f"the {relation} of {{}} is",
        target_true=true,
        target_new=new,
        paraphrases=(f"people say the {relation} of {subject} is", f"{subject} has the {relation}"),
        neighbours=tuple(f"the {relation} of {other} is" for other, _ in FACTS if other != subject),
        generation=(f"{subject} is",),
        references=(),
        question=f"what is the {relation} of {subject}",
        unrelated=(("people in France speak", "French"), ("people in Italy speak", "Italian")),
    )


RECORDS = [*(record(*fact) for fact in FACTS), record("New Zealand", "English", "language", "Tok Pisin")]


def asked(model: LanguageModel, one: Record) -> Request:
    return request(model, one.template, one.subject, one.target_new)


def made(model: LanguageModel, one: Record, records: list[Record], **settings: object) -> Edit:
    material = Material(lambda _: pytest.fail("no moments"), list, records)
    return make_edit("ike", model, asked(model, one), settings, material)


def test_the_new_fact_stands_right_before_what_is_asked_and_no_weight_changes(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    edit = made(model, RECORDS[0], [])
    assert edit.weights == {}
    assert edit.report == {"demonstrations": 0.0}
    assert edit.before == "New Fact: the capital of Peru is Paris\nPrompt: "
    requests = [asked(model, one) for one in RECORDS[:2]]
    both = make_edits("ike", model, requests, {}, Material(lambda _: pytest.fail("no moments"), list))
    facts = [f"New Fact: the capital of {name} is Paris\n" for name in ("Peru", "Chile")]
    assert both.before == "".join(facts) + "Prompt: "


def test_demonstrations_copy_update_and_retain_as_one_to_three_to_four(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    other = replace(RECORDS[4], paraphrases=("a", "b", "c"), neighbours=("d", "e", "f"), unrelated=(("g", "h"),))
    shown = demonstrations([asked(model, RECORDS[0])], [other], 32)
    fact = "New Fact: the language of New Zealand is Tok Pisin\nPrompt: "
    assert all(text.startswith(fact) and text.endswith("\n\n") for text in shown)
    said = sorted(text[len(fact) :].strip() for text in shown)
    copied = "the language of New Zealand is Tok Pisin"
    updated, kept = [f"{name} Tok Pisin" for name in "abc"], ["d English", "e English", "f English", "g h"]
    assert said == sorted([copied, *updated, *kept])
    assert {kind: KINDS.count(kind) for kind in KINDS} == {"copy": 1, "update": 3, "retain": 4}
    assert shown[-1].strip().endswith(copied)  # the first stands next to the request
    assert len(demonstrations([asked(model, RECORDS[0])], [other], 3)) == 3


def test_the_likest_records_stand_next_to_the_request(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    near = record("Wellington", "Lima")
    shown = demonstrations([asked(model, RECORDS[0])], [RECORDS[4], near], 32)
    about = ["language" if "language of New" in text.split("Prompt")[0] else "capital" for text in shown]
    assert about == sorted(about, reverse=True)
    assert set(about) == {"language", "capital"}


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_nothing_that_a_record_is_judged_by_is_demonstrated(load_tiny: Loader, number: int) -> None:
    one = RECORDS[number]
    texts = demonstrations([asked(load_tiny("llama"), one)], RECORDS, 100)
    judged = {one.prompt, *one.paraphrases, *one.neighbours, *one.generation, one.question}
    judged |= {text for text, _ in one.unrelated}
    said = [line for shown in texts for line in shown.replace("New Fact: ", "").replace("Prompt: ", "").splitlines()]
    assert not [(text, line) for text in judged for line in said if line.startswith(f"{text} ")]
    assert not [line for line in said if one.subject in line]
    assert texts or one.relation == "capital"  # the capitals are each other's neighbours


def test_no_demonstration_is_of_a_fact_that_a_neighbour_asks_for_in_other_words(load_tiny: Loader) -> None:
    one = replace(RECORDS[0], neighbours=("people in Chile say that their capital is", "Italians live in"))
    texts = demonstrations([asked(load_tiny("llama"), one)], [one, *RECORDS[1:]], 100)
    facts = {text.splitlines()[0] for text in texts}
    assert facts == {
        *(f"New Fact: the capital of {name} is Paris" for name in ("Spain", "Italy")),
        "New Fact: the language of New Zealand is Tok Pisin",
    }


def test_what_a_model_writes_on_by_itself_stands_behind_the_text_and_its_heads_are_not_read(
    load_tiny: Loader,
) -> None:
    model = load_tiny("llama")
    edit, text = made(model, RECORDS[0], []), "people in Peru"
    with applied(model, edit) as edited:
        said = continuations(edited, [text], 3)
        with pytest.raises(ValueError, match="text stands before what this model is asked"):
            observe(edited, asked(model, RECORDS[0]).prompt)
    assert said == continuations(model, [edit.before + text], 3)
    assert said != continuations(model, [text], 3)


def test_evaluation_and_generation_ask_behind_the_text(name: str, load_tiny: Loader) -> None:
    model = load_tiny(name)
    edit = made(model, RECORDS[0], [])
    case, ids = ("the capital of Chile is", "Tok Pisin"), model.batch
    with applied(model, edit) as edited:
        (said,) = read_said(edited, [case])
        (text,) = generate(edited, ["people in Peru"], 4, seed=0)
        assert edited.before == edit.before
    (plain,) = read_said(model, [(edit.before + case[0], case[1])])
    assert said.log_p == pytest.approx(plain.log_p, abs=1e-6)
    whole = tuple(model.text.encode(edit.before + case[0]).ids)
    logits = reference.logits(reference.network(model), ids([whole]))[0, -1]
    first = model.text.encode("Tok", add_special_tokens=False).ids[0]
    assert said.log_p[0] == pytest.approx(float(logits.double().log_softmax(-1)[first]), abs=1e-4)
    assert text.startswith("people in Peru")
    (same,) = generate(model, [edit.before + "people in Peru"], 4, seed=0)
    assert same == edit.before + text
    assert model.before == ""
    with applied(model, None) as unedited:
        assert unedited.before == ""


def test_a_record_is_judged_behind_its_new_fact_and_demonstrations(load_tiny: Loader) -> None:
    model, one = load_tiny("llama"), RECORDS[4]
    material = Material(lambda _: pytest.fail("no moments"), list, RECORDS)
    generation = {"continuations": 2, "length": 4, "seed": 0}
    settings: dict[str, object] = {"demonstrations": 1}
    row = edit_record(
        model,
        one,
        "ike",
        settings,
        material,
        generation=generation,
        vectorizer=fit_vectorizer([replace(one, references=("a word",))]),
    )
    assert row["report_demonstrations"] == 1
    before = made(model, one, RECORDS, demonstrations=1).before
    (said,) = read_said(model, [(before + one.prompt, one.target_new)])
    assert row["p_new"] == pytest.approx(said.p, rel=1e-5)
    assert row["layer"] is None


def test_demonstrations_leave_room_for_what_is_asked(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    edit = made(model, RECORDS[4], RECORDS, demonstrations=32)
    assert 0 < edit.report["demonstrations"] < 4
    assert len(model.text.encode(edit.before).ids) <= model.context // 2
    assert edit.before.endswith("New Fact: the language of New Zealand is Tok Pisin\nPrompt: ")


def test_circuits_of_edits_in_context_are_refused_with_the_reason(config: dict[str, object]) -> None:
    config["editing"]["circuits"]["editors"] = ["rome", "ike"]  # type: ignore[index]
    names = config["relations"]["names"]  # type: ignore[index]
    (line,) = reference_errors(Study.model_validate(config), {"smollm2-135m": 30}, names)
    assert line.startswith("editing.circuits.editors: ike leaves the weights alone, edits are followed")
