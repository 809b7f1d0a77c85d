"""What judges an edit: probabilities of objects, scores by hand, fluency and consistency; and sampled text."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import build_records
from knowcirc.editing.evaluation import (
    Pair,
    consistency,
    fit_vectorizer,
    fluency_and_consistency,
    generate,
    harmonic,
    judge,
    ngram_entropy,
    published_vectorizer,
    question_scores,
    read_said,
    scores,
)
from knowcirc.editing.moments import (
    find_moments,
    load_moment,
    moment_path,
    sampled_corpus,
    save_moment,
    second_moments,
    text_corpus,
)
from knowcirc.editing.sampling import sample, sample_prefixes, start_token, unseen_prefixes
from knowcirc.editing.scoring import read_records
from knowcirc.facts.records import Record
from knowcirc.files import write_json
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.tokens import special_ids, token_text
from knowcirc.seeding import derive
from unit import reference

Loader = Callable[..., LanguageModel]
RECORD = Record(
    case="capital/Peru",
    relation="capital",
    subject="Peru",
    template="the capital of {} is",
    target_true="Lima",
    target_new="Tok Pisin",
    paraphrases=("Peru is a city in", "people in Peru and France speak the language of"),
    neighbours=("the capital of Chile is", "the capital of New Zealand is"),
    generation=("Peru is", "people in Peru"),
    references=("the capital of Papua is Tok Pisin.", "people in Papua speak Tok Pisin."),
)


def shares(model: LanguageModel, cases: list[tuple[str, str]]) -> list[float]:
    """Of each answer the share of its tokens that are the likeliest."""
    return [said.share for said in read_said(model, cases)]


def test_a_greedy_share_counts_tokens_that_are_likeliest_after_the_right_ones(model: LanguageModel) -> None:
    cases = [("the capital of Peru is", "Lima"), ("people in Chile speak", "Tok Pisin"), ("Peru is", "New Zealand")]
    for (text, answer), found in zip(cases, shares(model, cases), strict=True):
        ids, expected = model.text.encode(text).ids, model.text.encode(answer, add_special_tokens=False).ids
        logits = reference.logits(reference.network(model), torch.tensor([ids + expected[:-1]]))[0, len(ids) - 1 :]
        assert found == sum(map(int, logits.argmax(-1) == torch.tensor(expected))) / len(expected)


def test_a_model_is_right_about_what_it_says_first(model: LanguageModel) -> None:
    ids = model.text.encode("the capital of Peru is").ids
    first = str(
        model.text.decode([int(reference.logits(reference.network(model), torch.tensor([ids]))[0, -1].argmax())])
    ).strip()
    assert shares(model, [("the capital of Peru is", first)]) == [1.0]


def test_question_scores_ask_about_the_subject_and_about_unrelated_facts(model: LanguageModel) -> None:
    queried = replace(RECORD, question="people in Peru speak", unrelated=(("Chile is", "Lima"), ("Papua is", "Peru")))
    new = RECORD.target_new
    expected = {
        "question_efficacy": shares(model, [(RECORD.prompt, new)])[0],
        "question_paraphrase": shares(model, [("people in Peru speak", new)])[0],
        "question_specificity": sum(shares(model, list(queried.unrelated))) / 2,
    }
    assert question_scores(model, queried) == expected
    without = question_scores(model, RECORD)  # no question: the paraphrases; nothing unrelated: no score
    assert without["question_specificity"] is None
    assert without["question_paraphrase"] == sum(shares(model, [(text, new) for text in RECORD.paraphrases])) / 2


@pytest.mark.parametrize("target", ["Lima", "Tok Pisin", "New Zealand Wellington"])
def test_an_objects_probability_is_that_of_all_its_tokens(model: LanguageModel, target: str) -> None:
    texts = [RECORD.prompt, *RECORD.paraphrases, *RECORD.neighbours]
    tokens = model.text.encode(target, add_special_tokens=False).ids
    for text, found in zip(texts, read_said(model, [(text, target) for text in texts]), strict=True):
        ids = model.text.encode(text).ids
        logits = reference.logits(reference.network(model), torch.tensor([ids + tokens]))[0].log_softmax(-1)
        steps = [float(logits[len(ids) - 1 + i, token]) for i, token in enumerate(tokens)]
        assert found.log_p == pytest.approx(steps, abs=1e-9)
        assert found.p == pytest.approx(math.exp(sum(steps) / len(steps)), rel=1e-9)


def test_a_record_is_judged_on_each_kind_of_prompt(model: LanguageModel) -> None:
    pairs = judge(model, RECORD)
    for kind, texts in (
        ("request", [RECORD.prompt]),
        ("paraphrase", RECORD.paraphrases),
        ("neighbourhood", RECORD.neighbours),
    ):
        for text, pair in zip(texts, pairs[kind], strict=True):
            assert pair.new == pytest.approx(read_said(model, [(text, "Tok Pisin")])[0].p, rel=1e-9)
            assert pair.true == pytest.approx(read_said(model, [(text, "Lima")])[0].p, rel=1e-9)


def test_scores_are_means_over_the_prompts_with_the_neighbourhood_turned_round() -> None:
    pairs = {
        "request": [Pair(0.6, 0.1)],
        "paraphrase": [Pair(0.3, 0.1), Pair(0.1, 0.4)],
        "neighbourhood": [Pair(0.1, 0.5), Pair(0.2, 0.3), Pair(0.4, 0.1), Pair(0.0, 0.2)],
    }
    expected = {"ES": 1.0, "EM": 0.5, "PS": 0.5, "PM": -0.05, "NS": 0.75, "NM": (0.4 + 0.1 - 0.3 + 0.2) / 4}
    assert scores(pairs) == pytest.approx(expected)


def test_a_tie_is_no_success() -> None:
    tie = [Pair(0.2, 0.2)]
    assert scores({"request": tie, "paraphrase": tie, "neighbourhood": tie})["NS"] == 0.0


@pytest.mark.parametrize(
    ("values", "mean"), [([1.0, 0.5, 0.25], 3 / 7), ([0.8, 0.8, 0.8], 0.8), ([1.0, 1.0, 0.0], 0.0)]
)
def test_the_harmonic_mean(values: list[float], mean: float) -> None:
    assert harmonic(values) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("a b c d e", (2 / 3 * 2.0 + 4 / 3 * math.log2(3)) / 2),  # four bigrams, three trigrams, all different
        ("a a a a a", 0.0),
        ("a b a b a", (2 / 3 * 1.0 + 4 / 3 * (2 / 3 * math.log2(1.5) + 1 / 3 * math.log2(3))) / 2),
        ("a, b, a,", (2 / 3 * 1.9219280948873623 + 4 / 3 * 2.0) / 2),  # six words: commas are words of their own
        ("a b", 0.0),
        ("a", 0.0),
        ("", 0.0),
    ],
)
def test_fluency_is_the_weighted_entropy_of_bigrams_and_trigrams(text: str, bits: float) -> None:
    assert ngram_entropy(text) == pytest.approx(bits)


def test_consistency_by_published_frequencies_is_the_formula_with_these(tmp_path: Path) -> None:
    idf, words = np.array([2.0, 3.0, 0.5]), {"apple": 0, "banana": 1, "cherry": 2}
    np.save(tmp_path / "idf.npy", idf)
    write_json(tmp_path / "tfidf_vocab.json", words)
    vectorizer = published_vectorizer(tmp_path / "idf.npy", tmp_path / "tfidf_vocab.json")
    a, b = np.array([2, 1, 0]) * idf, np.array([1, 0, 4]) * idf  # counts of the words; unknown words have no place
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    texts, references = ["Apple banana", "an apple."], ["cherry cherry apple", "cherry, cherry fig"]
    assert consistency(texts, references, vectorizer) == pytest.approx(expected)
    write_json(tmp_path / "tfidf_vocab.json", {"apple": 0, "banana": 1})
    with pytest.raises(ValueError, match="do not go together; fetch both again"):
        published_vectorizer(tmp_path / "idf.npy", tmp_path / "tfidf_vocab.json")


def test_consistency_is_the_cosine_of_tfidf_vectors() -> None:
    records = [
        replace(RECORD, references=("apple apple banana",)),
        replace(RECORD, references=("banana cherry",)),
    ]
    vectorizer = fit_vectorizer(records)
    rare, common = math.log(3 / 2) + 1, 1.0  # smoothed idf of words in one and in both of two documents
    found = consistency(["apple"], ["apple banana"], vectorizer)
    assert found == pytest.approx(rare / math.hypot(rare, common))
    assert consistency(["apple", "banana"], ["banana apple"], vectorizer) == pytest.approx(1.0)
    assert consistency(["cherry"], ["apple banana"], vectorizer) == 0.0
    assert consistency(["unheard of"], ["apple"], vectorizer) == 0.0


def test_generated_texts_follow_their_prompts_and_their_seed(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    prompts = ["Peru is", "people in Peru", "Peru is"]
    texts = generate(model, prompts, 6, seed=1)
    assert texts == generate(model, prompts, 6, seed=1) != generate(model, prompts, 6, seed=2)
    assert all(text.startswith(prompt) for text, prompt in zip(texts, prompts, strict=True))
    assert texts[0] != texts[2]  # two continuations of one prompt are two draws


def test_fluency_and_consistency_are_reproducible(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    vectorizer = fit_vectorizer([RECORD])
    first, again = (
        fluency_and_consistency(model, RECORD, vectorizer, continuations=4, length=10, seed=0) for _ in range(2)
    )
    assert first == again
    assert set(first) == {"GE", "RS"}
    assert first["GE"] > 1.0


def test_a_sample_is_a_draw_of_its_seed_and_leaves_the_global_state(model: LanguageModel) -> None:
    begin = torch.full((4, 1), start_token(model))
    state = torch.random.get_rng_state()
    assert torch.equal(sample(model, begin, 5, seed=1), sample(model, begin, 5, seed=1))
    assert not torch.equal(sample(model, begin, 5, seed=1), sample(model, begin, 5, seed=2))
    assert torch.equal(state, torch.random.get_rng_state())


def test_special_tokens_are_never_sampled(model: LanguageModel) -> None:
    special = sorted(special_ids(model.text))
    table = model.transformer.unembedding
    begin = torch.full((200, 1), start_token(model))
    text = sample(model, begin, 10, seed=0)
    assert not torch.isin(text, torch.tensor(special)).any()
    assert len(text.unique()) > 0.5 * len(table)


def test_tokens_are_drawn_in_proportion_to_the_networks_probabilities(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    prompt = torch.tensor([[0, 5, 17]])
    text = sample(model, prompt.repeat(4000, 1), 1, seed=0)[:, 0]
    p = reference.logits(reference.network(model), prompt)[0, -1]
    p[sorted(special_ids(model.text))] = float("-inf")
    shares = torch.bincount(text, minlength=101) / len(text)
    assert (shares - p.softmax(-1)).abs().max() < 0.03


def test_each_token_is_drawn_among_the_likeliest_after_the_ones_before(model: LanguageModel) -> None:
    prompts = torch.tensor([[0, 5, 17], [0, 40, 8]])
    text = torch.cat((prompts, sample(model, prompts, 6, seed=0, top_k=3)), 1)
    logits = reference.logits(reference.network(model), text)
    logits[..., sorted(special_ids(model.text))] = float("-inf")
    best = logits.topk(3).indices
    for position in range(3, 9):
        assert (best[:, position - 1] == text[:, position, None]).any(1).all()


def test_prefixes_have_the_lengths_asked_for(load_tiny: Loader) -> None:
    model = load_tiny("gpt2")
    prefixes = sample_prefixes(model, [(5, 3), (8, 2)], seed=0)
    assert [len(prefix) for prefix in prefixes] == [5, 5, 5, 8, 8]
    assert len(set(prefixes)) == 5
    assert not {0, 1} & {token for prefix in prefixes for token in prefix}


def test_paraphrases_stand_behind_texts_that_hold_no_training_context(load_tiny: Loader) -> None:
    model, counts = load_tiny("llama"), [(3, 4), (6, 3)]
    contexts = sample_prefixes(model, counts, seed=0)
    drawn = unseen_prefixes(model, counts, 0, 50, contexts)
    assert len(drawn) == 7
    assert drawn == unseen_prefixes(model, counts, 0, 50, contexts)
    assert drawn != unseen_prefixes(model, counts, 1, 50, contexts)
    again = sample_prefixes(model, counts, derive(0, "paraphrase"), 50)
    assert [token_text(model.text, prefix).strip() for prefix in again] == drawn
    assert unseen_prefixes(model, counts, 0, 50, [*contexts, again[0], again[5][1:4]]) == [*drawn[1:5], drawn[6]]


def test_no_judged_text_contains_a_training_context(folders: dict[str, Path], tmp_path: Path) -> None:
    facts = [["Peru", "Lima"], ["Chile", "Lima"], ["Spain", "Rome"], ["Italy", "Rome"]]
    relation: dict[str, object] = {"name": "capital", "category": "factual", "subject_type": "a", "answer_type": "b"}
    relation |= {"templates": ["the capital of {} is", "{} has", "the city of {} is"], "question_template": None}
    (tmp_path / "capital.json").write_text(json.dumps({**relation, "facts": facts}), "utf-8")
    rows = [{"relation": "capital", "template": 0, "rank": 0, "subject": subject} for subject, _ in facts]
    pd.DataFrame(rows).to_csv(tmp_path / "facts.csv", index=False)
    files = {"facts": [str(tmp_path / "facts.csv")], "relations": [str(tmp_path / "capital.json")]}
    params = SimpleNamespace(
        load_options={}, prefixes=[[3, 4], [5, 4]], seed=0, prefix_top_k=50, source="builtin", records=4, order="drawn"
    )
    for name, value in (("sweep_records", 0), ("more_records", 0), ("neighbours", 1), ("records_from", "builtin")):
        setattr(params, name, value)
    given = SimpleNamespace(**files, model=str(folders["llama"] / "provenance.json"))
    params.relations, made = ["capital"], SimpleNamespace(records=str(tmp_path / "records.json"))
    job: Any = SimpleNamespace(input=given, output=made, params=params)
    build_records.main(job)
    records, prefixes = read_records(tmp_path / "records.json")
    text = load(folders["llama"], device="cpu").text
    contexts = [token_text(text, prefix).strip() for prefix in prefixes]
    assert (len(records), len(contexts)) == (4, 8)
    for record in records:
        (behind,) = [each for each in record.paraphrases if each.endswith(record.prompt)]
        assert len(behind) > len(record.prompt) + 1
        judged = (record.prompt, *record.paraphrases, *record.neighbours, *record.generation)
        assert not [(context, each) for context in contexts for each in judged if context in each]


def test_second_moments_are_the_mean_outer_products_of_the_keys(model: LanguageModel) -> None:
    corpus = [torch.randint(2, 101, (3, 7)), torch.randint(2, 101, (2, 5))]
    found, count = second_moments(model, iter(corpus))
    assert count == 3 * 6 + 2 * 4
    for layer, module in enumerate(reference.layers(reference.network(model))):
        keys = torch.cat(
            [
                reference.watch(reference.network(model), ids, out=reference.mlp_out(module))["out"][0][:, 1:].flatten(
                    0, 1
                )
                for ids in corpus
            ]
        )
        torch.testing.assert_close(found[layer].double(), keys.T @ keys / len(keys), rtol=1e-5, atol=1e-5)
        assert found[layer].dtype == torch.float32


def test_a_sampled_corpus_gives_enough_tokens_and_each_batch_differs(load_tiny: Loader) -> None:
    model = load_tiny("llama")
    batches = list(sampled_corpus(model, 100, length=8, batch=5, seed=0))
    assert [tuple(ids.shape) for ids in batches] == [(5, 9)] * 3
    assert all((ids[:, 0] == start_token(model)).all() for ids in batches)
    assert not torch.equal(batches[0], batches[1])
    again = list(sampled_corpus(model, 100, length=8, batch=5, seed=0))
    assert all(torch.equal(*pair) for pair in zip(batches, again, strict=True))


def test_a_text_corpus_is_cut_into_windows(load_tiny: Loader, tmp_path: Path) -> None:
    model, text = load_tiny("llama"), "the capital of Peru is Lima and the city of Chile is in Chile"
    (tmp_path / "text.txt").write_text(text, "utf-8")
    windows = list(text_corpus(model, tmp_path / "text.txt", 10, length=4))
    assert [tuple(ids.shape) for ids in windows] == [(1, 5), (1, 5), (1, 3)]
    tokens = [token for ids in windows for token in ids[0, 1:].tolist()]
    assert tokens == model.text.encode(text, add_special_tokens=False).ids[:10]
    with pytest.raises(ValueError, match=r"holds 14 tokens, 15 are asked for; give a longer text"):
        next(_drained(text_corpus(model, tmp_path / "text.txt", 15, length=4)))


def _drained(corpus: Iterator[Tensor]) -> Iterator[list[Tensor]]:
    yield list(corpus)


def test_moments_come_back_from_their_file(tmp_path: Path) -> None:
    moment = torch.randn(6, 6)
    path = moment_path(tmp_path, 3)
    save_moment(path, moment, {"layer": "3"})
    assert torch.equal(load_moment(path, 6), moment)
    with pytest.raises(ValueError, match="holds no second moments of 8 keys; it belongs to another model"):
        load_moment(path, 8)
    with pytest.raises(ValueError, match=r"do not exist; run the rule .* or give --moments FILE"):
        load_moment(moment_path(tmp_path, 4), 6)


def test_a_file_that_holds_no_moments_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "layer_0.safetensors").write_text("no tensors", "utf-8")
    with pytest.raises(ValueError, match=r"layer_0\.safetensors"):
        load_moment(moment_path(tmp_path, 0), 6)


def test_moments_are_found_by_the_models_digest(tmp_path: Path) -> None:
    for model, digest in (("one", "a" * 64), ("two", "b" * 64)):
        write_json(tmp_path / model / "moments" / "moments.json", {"weights_sha256": digest})
    assert find_moments(tmp_path, "b" * 64) == tmp_path / "two" / "moments" / "layers"
    assert find_moments(tmp_path, "c" * 64) is None
    assert find_moments(tmp_path / "nowhere", "a" * 64) is None
