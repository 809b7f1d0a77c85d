"""ROME's known_1000: what is refused, why a fact is left out, and which facts are traced, on tiny models."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from tokenizers.normalizers import Replace

import screen_known_1000
import trace_facts
from knowcirc.facts.known1000 import (
    KnownFact,
    describe_screening,
    draw_usable,
    left_out_table,
    prompts_of_table,
    read_known_1000,
    screen_facts,
    usable_table,
)
from knowcirc.files import read_table, write_json
from knowcirc.models.loading import LanguageModel, weights_digest
from knowcirc.tracing.noise import embedding_deviation, subject_tokens, tokens_alone
from knowcirc.tracing.selection import facts_to_trace
from unit import reference
from unit.tiny import MODELS, words

Loader = Callable[..., LanguageModel]
SUBJECTS = ("France", "Italy", "Spain", "Peru", "Chile", "New Zealand")
TRACING = {"source": "known_1000", "facts": 3, "extra": 0, "noise_from": "prompts"}


def record(number: int, subject: str = "France", attribute: str = "Paris", prompt: str | None = None) -> dict[str, Any]:
    """A record as the file has it."""
    return {
        "known_id": number,
        "subject": subject,
        "attribute": attribute,
        "template": "the capital of {} is",
        "prediction": f" {attribute} and of",
        "prompt": f"the capital of {subject} is" if prompt is None else prompt,
        "relation_id": f"P{number % 2}",
    }


def save(folder: Path, data: object) -> Path:
    path = folder / "known_1000.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def fact(number: int, **changes: str) -> KnownFact:
    row = record(number, **changes)
    return KnownFact(number, row["subject"], row["attribute"], row["prompt"], row["relation_id"])


def ranked(model: LanguageModel, text: str) -> list[str]:
    """The vocabulary as the network itself ranks it after a text."""
    logits = reference.logits(reference.network(model), model.batch([tuple(model.text.encode(text).ids)]))[0, -1]
    return [str(model.text.decode([token])) for token in logits.argsort(descending=True).tolist()]


def answered(model: LanguageModel, place: int) -> list[KnownFact]:
    """Facts whose answer the model ranks at `place`, counted from 1."""
    texts = [f"the capital of {subject} is" for subject in SUBJECTS]
    answers = [ranked(model, text)[place - 1] for text in texts]
    return [
        fact(number, subject=subject, attribute=answer)
        for number, (subject, answer) in enumerate(zip(SUBJECTS, answers, strict=True))
    ]


def test_facts_come_back_in_the_files_order(tmp_path: Path) -> None:
    facts = read_known_1000(save(tmp_path, [record(7), record(3, "Italy", "Rome")]))
    assert facts == [
        KnownFact(7, "France", "Paris", "the capital of France is", "P1"),
        KnownFact(3, "Italy", "Rome", "the capital of Italy is", "P1"),
    ]


@pytest.mark.parametrize("data", ["", "[{", "3", "{}", "[]", '{"known_id": 1}', "null"])
def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path: Path, data: str) -> None:
    with pytest.raises(ValueError, match=r"known_1000\.json is no known_1000 file.*; fetch it again"):
        read_known_1000(save(tmp_path, data))


def test_a_file_that_is_no_text_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "known_1000.json"
    path.write_bytes(b"[\xff]")
    with pytest.raises(ValueError, match=r"known_1000\.json is no known_1000 file \(UnicodeDecodeError"):
        read_known_1000(path)


@pytest.mark.parametrize("row", ["text", 3, None, ["France", "Paris"]])
def test_a_record_of_another_kind_is_refused_by_its_number(tmp_path: Path, row: object) -> None:
    with pytest.raises(ValueError, match=r"record 1: .* is no mapping of fields"):
        read_known_1000(save(tmp_path, [record(0), row]))


@pytest.mark.parametrize("field", ["known_id", "subject", "attribute", "prompt", "relation_id"])
def test_a_record_that_lacks_a_field_is_refused_by_record_and_field(tmp_path: Path, field: str) -> None:
    lacking = {key: value for key, value in record(1).items() if key != field}
    with pytest.raises(ValueError, match=f"record 1: field {field} is missing; fetch it again"):
        read_known_1000(save(tmp_path, [record(0), lacking]))


@pytest.mark.parametrize("field", ["template", "prediction"])
def test_a_field_that_tracing_does_not_need_may_be_missing(tmp_path: Path, field: str) -> None:
    rows = [{key: value for key, value in record(1).items() if key != field}]
    assert len(read_known_1000(save(tmp_path, rows))) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("known_id", "1"),
        ("known_id", True),
        ("known_id", 1.0),
        ("subject", ""),
        ("subject", None),
        ("attribute", " Paris"),
        ("attribute", ["Paris"]),
        ("prompt", "the capital of France is "),
        ("relation_id", 36),
    ],
)
def test_a_wrong_value_is_refused_by_record_and_field(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"record 2: field {field}: .* is no .*; fetch it again"):
        read_known_1000(save(tmp_path, [record(0), record(1), {**record(2), field: value}]))


def test_a_number_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="record 2: field known_id: 5 is also that of record 0"):
        read_known_1000(save(tmp_path, [record(5), record(1), record(5)]))


def test_facts_whose_answer_ranks_first_are_usable(model: LanguageModel) -> None:
    facts = answered(model, 1)
    usable, left_out = screen_facts(model, facts)
    assert left_out == []
    assert [one.fact for one in usable] == facts
    assert [one.prompt.span for one in usable] == [(4, 5)] * 5 + [(4, 6)]
    for one in usable:
        ids = model.batch([one.prompt.ids])
        p = reference.logits(reference.network(model), ids)[0, -1].softmax(-1)
        assert one.answer.p == pytest.approx(float(p.max()), rel=1e-9)
        assert one.prompt.answer == (int(p.argmax()),)


@pytest.mark.parametrize("name", [each for each in MODELS if each != "qwen3"])  # whose 57th token is a special one
@pytest.mark.parametrize("place", [2, 57])
def test_a_fact_that_is_not_known_is_left_out_with_its_rank(model: LanguageModel, place: int) -> None:
    facts = answered(model, place)
    usable, left_out = screen_facts(model, facts)
    assert usable == []
    assert [one.fact for one in left_out] == facts
    assert {one.reason for one in left_out} == {f"not known: the answer ranks {place}"}


def test_an_answer_of_several_tokens_is_left_out_though_its_first_ranks_first(model: LanguageModel) -> None:
    (known, *_) = answered(model, 1)
    facts = [fact(0, attribute=f"{known.attribute} Pisin"), fact(1, attribute=f"{known.attribute} in Papua")]
    usable, left_out = screen_facts(model, facts)
    assert usable == []
    assert [one.reason for one in left_out] == ["answer of 2 tokens", "answer of 3 tokens"]


def test_a_subject_that_the_prompt_lacks_is_the_first_reason(model: LanguageModel) -> None:
    facts = [
        fact(0, subject="Spain", prompt="the capital of France is", attribute="Tok Pisin"),
        fact(1, subject="france", prompt="the capital of France is"),
    ]
    usable, left_out = screen_facts(model, facts)
    assert usable == []
    assert {one.reason for one in left_out} == {"no subject in the prompt"}


def test_a_subject_that_covers_no_token_is_not_in_the_prompt(load_tiny: Loader) -> None:
    tokenizer = words()
    tokenizer.normalizer = Replace("Rome", "")
    model = replace(load_tiny("gpt2"), tokenizer=tokenizer)
    _, left_out = screen_facts(model, [fact(0, subject="Rome", prompt="is Rome")])
    assert [one.reason for one in left_out] == ["no subject in the prompt"]


def test_a_subject_that_occurs_twice_is_the_last(load_tiny: Loader, caplog: pytest.LogCaptureFixture) -> None:
    model = load_tiny("llama")
    text = "France is in France of"
    (one,), _ = screen_facts(model, [fact(0, prompt=text, attribute=ranked(model, text)[0])])
    assert one.prompt.span == (4, 5)
    assert "occurs 2 times" in caplog.text


def mixed(model: LanguageModel) -> list[KnownFact]:
    """A fact of each kind between usable ones, in no order of kinds."""
    known, unknown = answered(model, 1), answered(model, 9)
    return [
        KnownFact(10, "Spain", "Rome", "the capital of France is", "P36"),
        known[0],
        KnownFact(11, unknown[1].subject, unknown[1].attribute, unknown[1].prompt, "P36"),
        known[2],
        KnownFact(12, "France", "Tok Pisin", "the capital of France is", "P36"),
        known[3],
        known[4],
    ]


def test_every_fact_is_usable_or_left_out_in_the_files_order(model: LanguageModel) -> None:
    facts = mixed(model)
    usable, left_out = screen_facts(model, facts)
    assert [one.fact for one in usable] == [facts[i] for i in (1, 3, 5, 6)]
    assert [one.fact for one in left_out] == [facts[i] for i in (0, 2, 4)]
    assert describe_screening(usable, left_out) == (
        "4 of 7 facts can be traced; "
        "no subject in the prompt: 1, answer of N tokens: 1, not known: the answer ranks N: 1"
    )


def test_the_tables_name_every_fact(model: LanguageModel) -> None:
    usable, left_out = screen_facts(model, mixed(model))
    table = left_out_table(left_out, "tiny")
    assert list(table) == ["model", "known_id", "subject", "prompt", "answer", "reason"]
    assert table["known_id"].tolist() == [10, 11, 12]
    assert table["reason"].tolist() == [
        "no subject in the prompt",
        "not known: the answer ranks 9",
        "answer of 2 tokens",
    ]
    known = usable_table(usable)
    assert list(known) == ["known_id", "relation", "subject", "prompt", "answer", "p"]
    assert known["p"].tolist() == [one.answer.p for one in usable]
    assert prompts_of_table(model, known) == [one.prompt for one in usable]
    assert list(left_out_table([], "tiny")) == list(table)
    assert list(usable_table([])) == list(known)


def test_a_draw_is_one_of_its_seed_and_grows_by_its_end() -> None:
    table = pd.DataFrame({"known_id": range(40)})
    draw = draw_usable(table, 9, 2**62 + 5)["known_id"].tolist()
    assert len(set(draw)) == 9
    assert draw == draw_usable(table, 9, 2**62 + 5)["known_id"].tolist()
    assert draw == draw_usable(table, 20, 2**62 + 5)["known_id"].tolist()[:9]
    assert draw != draw_usable(table, 9, 1)["known_id"].tolist()
    assert sorted(draw_usable(table, 100, 0)["known_id"]) == list(range(40))


def test_traced_facts_are_drawn_from_the_usable_ones(model: LanguageModel, caplog: pytest.LogCaptureFixture) -> None:
    table = usable_table(screen_facts(model, mixed(model))[0])
    traced = facts_to_trace(model, table, TRACING, seed=0)
    assert len(traced.rows) == 3
    assert [prompt.text for prompt in traced.prompts] == traced.rows["prompt"].tolist()
    assert set(traced.rows["relation"]) <= {"P0", "P1"}
    assert not caplog.records
    everything = facts_to_trace(model, table, {**TRACING, "facts": 9}, seed=0)
    assert len(everything.rows) == 4
    assert "tracing.facts: 9 asked for, the model knows 4; these are traced" in caplog.text
    assert everything.prompts[:3] == traced.prompts
    assert everything.sample == traced.sample
    assert list(traced.sample.tokens) == subject_tokens(prompts_of_table(model, table))
    assert traced.sample.deviation == embedding_deviation(model, prompts_of_table(model, table))


def test_traced_facts_of_the_survey_are_known_ones_of_the_relations(load_tiny: Loader) -> None:
    columns = ["relation", "template", "wording", "subject", "object", "rank"]
    wording = "the capital of {} is"
    rows = [
        ("capital", 1, wording, "France", "Paris", 0),
        ("capital", 0, "{} is", "France", "Paris", 0),
        ("capital", 1, wording, "Italy", "Rome", 1),
        ("language", 1, wording, "Spain", "Spanish", 0),
        ("other", 1, wording, "Peru", "Lima", 0),
    ]
    settings = {**TRACING, "source": "builtin", "template": 1, "relations": ["language", "capital"], "facts": 5}
    traced = facts_to_trace(load_tiny("gpt2"), pd.DataFrame(rows, columns=columns), settings, seed=0)
    assert traced.rows["subject"].tolist() == ["Spain", "France"]
    assert [prompt.answer_text for prompt in traced.prompts] == ["Spanish", "Paris"]
    assert list(traced.sample.tokens) == tokens_alone(words(), ["France", "Italy", "Spain"])
    with pytest.raises(ValueError, match=r"no fact of the relations in tracing\.relations; name others"):
        facts_to_trace(load_tiny("gpt2"), pd.DataFrame(rows[2:3], columns=columns), settings, seed=0)


def test_a_relation_that_lacks_the_wording_is_traced_in_its_last(load_tiny: Loader) -> None:
    columns = ["relation", "template", "wording", "subject", "object", "rank"]
    wording = "the capital of {} is"
    rows = [
        *(("capital", template, wording, "France", "Paris", 0) for template in (0, 2)),  # has three
        *(("language", template, wording, "Spain", "Spanish", 0) for template in (0, 3)),
    ]
    settings = {**TRACING, "source": "builtin", "template": 3, "relations": ["language", "capital"], "facts": 5}
    traced = facts_to_trace(load_tiny("gpt2"), pd.DataFrame(rows, columns=columns), settings, seed=0)
    assert traced.rows[["relation", "template"]].to_numpy().tolist() == [["language", 3], ["capital", 2]]


def test_a_model_that_knows_none_of_the_facts_is_told_so(load_tiny: Loader) -> None:
    with pytest.raises(ValueError, match=r"knows no fact of known_1000 .*; set tracing\.source to builtin"):
        facts_to_trace(load_tiny("gpt2"), usable_table([]), TRACING, seed=0)


def jobs(folder: Path, model: Path, facts: list[KnownFact]) -> tuple[Any, Any]:
    """Jobs of the rules screen_known_1000 and trace_facts on a file of these facts."""
    held = folder / "model"  # a folder of its own: tests share the model's
    shutil.copytree(model, held, dirs_exist_ok=True)
    provenance = held / "provenance.json"
    write_json(provenance, {"weights_sha256": weights_digest(held)})
    rows = [record(one.known_id, one.subject, one.attribute, one.prompt) for one in facts]
    load_options = {"dtype": "float64", "processing": "none"}
    screened, left_out = str(folder / "known_1000.parquet"), str(folder / "left_out.csv")
    screening = SimpleNamespace(
        input=SimpleNamespace(model=str(provenance), known_1000=str(save(folder, rows))),
        output=SimpleNamespace(facts=screened, left_out=left_out),
        params=SimpleNamespace(load_options=load_options),
        wildcards=SimpleNamespace(model="tiny"),
    )
    settings = {**TRACING, "draws": 1, "noise_multiplier": 3.0, "window": 2, "noise_seed": 1, "severed": []}
    settings["distribution"] = "gaussian"
    tracing = SimpleNamespace(
        input=SimpleNamespace(model=str(provenance), facts=[screened], left_out=[]),
        output=SimpleNamespace(traces=str(folder / "parts/0.parquet")),
        params=SimpleNamespace(load_options=load_options, tracing=settings, share=5, seed=0, code="code"),
        wildcards=SimpleNamespace(part="0"),
    )
    return screening, tracing


def test_the_rules_write_who_was_left_out_and_trace_the_others(
    load_tiny: Loader, folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    screening, tracing = jobs(tmp_path, folders["gpt2"], mixed(load_tiny("gpt2")))
    with caplog.at_level(logging.INFO):
        screen_known_1000.main(screening)
    assert "known_1000: 4 of 7 facts can be traced" in caplog.text
    assert read_table(screening.output.left_out)["known_id"].tolist() == [10, 11, 12]
    trace_facts.main(tracing)
    traces = read_table(tracing.output.traces)
    assert traces["case"].unique().tolist() == [0, 1, 2]
    assert set(traces["relation"]) <= {"P0", "P1"}
    assert set(traces["subject"]) <= set(SUBJECTS)
    for row in traces.itertuples():
        assert row.subject in row.prompt


def test_a_model_that_knows_nothing_still_writes_the_reasons(
    load_tiny: Loader, folders: dict[str, Path], tmp_path: Path
) -> None:
    screening, tracing = jobs(tmp_path, folders["gpt2"], answered(load_tiny("gpt2"), 4))
    screen_known_1000.main(screening)
    assert set(read_table(screening.output.left_out)["reason"]) == {"not known: the answer ranks 4"}
    with pytest.raises(ValueError, match=r"left_out\.csv has the reasons"):
        trace_facts.main(tracing)
    assert not Path(tracing.output.traces).exists()
