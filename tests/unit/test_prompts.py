"""Prompts as tokens: subjects by character offsets, roles, answers, and batches of equal length."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE, WordLevel
from tokenizers.pre_tokenizers import ByteLevel

from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import (
    alike_objects,
    answer_tokens,
    batches,
    check_relation,
    fill,
    subject_span,
    token_roles,
    token_texts,
    tokenise,
)
from knowcirc.facts.relations import Fact, Relation
from knowcirc.models.loading import LanguageModel
from unit.tiny import words

WORDS = words()
RELATION = Relation(
    name="capital",
    category="factual",
    subject_type="country",
    answer_type="city",
    templates=("the capital of {} is", "{} is in", "people of {} speak"),
    question_template=None,
    reverse_template=None,
    relation_words=("capital",),
    facts=(Fact("France", "Paris"), Fact("Italy", "Rome"), Fact("New Zealand", "Wellington")),
)


@pytest.fixture(scope="module")
def bytes_tokenizer() -> Tokenizer:
    """A byte-level tokenizer without merges: one token per byte, spaces included, as GPT-2's family writes them."""
    alphabet = sorted(ByteLevel.alphabet())
    backend = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    backend.pre_tokenizer = ByteLevel(add_prefix_space=False)
    backend.decoder = ByteDecoder()
    return backend


def subject_words(text: str, subject: str, start: int | None = None) -> str:
    """The tokens that the span covers, read back."""
    prompt = tokenise(WORDS, text, "Paris", subject, start)
    assert prompt.span is not None
    return WORDS.decode(prompt.ids[slice(*prompt.span)])


def test_the_subject_is_found_behind_the_special_token() -> None:
    prompt = tokenise(WORDS, "the capital of New Zealand is", "Wellington", "New Zealand")
    assert prompt.ids[0] == 0
    assert prompt.span == (4, 6)
    assert prompt.subject_last == 5


def test_a_subject_at_the_start_does_not_take_the_special_token() -> None:
    assert tokenise(WORDS, "France is in", "Paris", "France").span == (1, 2)


def test_a_subject_at_the_end_is_covered_to_its_last_token() -> None:
    assert subject_words("the capital of New Zealand", "New Zealand") == "New Zealand"


def test_of_two_occurrences_the_last_counts_and_the_run_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prompt = tokenise(WORDS, "France and Italy and France is in", "Paris", "France")
    assert prompt.span == (5, 6)
    assert "occurs 2 times" in caplog.text


def test_a_template_says_where_its_subject_stands() -> None:
    relation_like = "the city of {} is in Peru and Peru"
    prompt = fill(WORDS, relation_like, "Peru", "Lima")
    assert prompt.text == "the city of Peru is in Peru and Peru"
    assert prompt.span == (4, 5)


def test_leading_spaces_belong_to_the_subjects_tokens(bytes_tokenizer: Tokenizer) -> None:
    text = "in Peru is"
    prompt = tokenise(bytes_tokenizer, text, "Lima", "Peru")
    assert prompt.span is not None
    low, high = prompt.span
    assert bytes_tokenizer.decode(prompt.ids[low:high]).strip() == "Peru"
    assert bytes_tokenizer.decode(prompt.ids[high:]) == " is"


def test_a_subject_inside_a_token_covers_that_token() -> None:
    assert subject_span("an abcdef here", "cd", [(0, 2), (3, 9), (10, 14)]) == (1, 2)


@pytest.mark.parametrize(("subject", "complaint"), [("Norway", "'Norway' does not occur"), ("", "'' does not occur")])
def test_a_subject_that_is_not_there_is_refused(subject: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tokenise(WORDS, "France is in", "Paris", subject)


def test_a_prompt_without_a_subject_has_no_last_token() -> None:
    with pytest.raises(ValueError, match="has no subject"):
        _ = tokenise(WORDS, "France is in", "Paris").subject_last


@pytest.mark.parametrize(
    ("length", "span", "roles"),
    [
        (8, (1, 4), "- first middle last next further further end"),
        (9, (1, 5), "- first middle middle last next further further end"),
        (5, (2, 3), "- - last next end"),
        (4, (1, 3), "- first last end"),
        (3, (1, 3), "- first last"),
        (2, (0, 1), "last end"),
        (1, (0, 1), "last"),
    ],
)
def test_each_position_has_one_role(length: int, span: tuple[int, int], roles: str) -> None:
    short = {
        "-": None,
        "first": "subject_first",
        "middle": "subject_middle",
        "last": "subject_last",
        "next": "first_subsequent",
        "further": "further",
        "end": "last",
    }
    assert token_roles(length, span) == [short[word] for word in roles.split()]


def test_an_answer_is_its_tokens_after_a_space_without_special_ones(
    bytes_tokenizer: Tokenizer,
) -> None:
    assert WORDS.decode(answer_tokens(WORDS, "Tok Pisin")) == "Tok Pisin"
    assert len(answer_tokens(WORDS, "Tok Pisin")) == 2
    assert bytes_tokenizer.decode(answer_tokens(bytes_tokenizer, "Rome")) == " Rome"


@pytest.mark.parametrize("answer", ["", " Paris", "Paris "])
def test_an_answer_with_spaces_around_it_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="without spaces around it"):
        answer_tokens(WORDS, answer)


def test_answers_that_begin_alike_are_named_together() -> None:
    facts = (*RELATION.facts, Fact("Chile", "Rome city"))
    assert alike_objects(WORDS, replace(RELATION, facts=facts)) == [["Rome", "Rome city"]]
    assert alike_objects(WORDS, RELATION) == []


def test_the_same_answer_of_two_facts_is_no_collision() -> None:
    assert alike_objects(WORDS, replace(RELATION, facts=(*RELATION.facts, Fact("Peru", "Rome")))) == []


def test_answers_whose_first_token_says_nothing_are_refused(bytes_tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="relation capital: the first token of 'Paris' holds no letter or digit"):
        check_relation(bytes_tokenizer, RELATION)


def test_batches_hold_rows_of_one_length_and_every_row_once() -> None:
    lengths = [3, 2, 3, 3, 2, 5, 3]
    groups = batches([(0,) * length for length in lengths], 2)
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert all(len(group) <= 2 and len({lengths[i] for i in group}) == 1 for group in groups)
    assert len(groups) == 4


def test_answers_come_back_in_the_order_of_the_prompts(load_tiny: Callable[..., LanguageModel]) -> None:
    model = load_tiny("gpt2")
    texts = ["France is in", "the capital of Italy is", "Peru is in", "a city", "the capital of Chile is"]
    prompts = [tokenise(model.text, text, "Rome") for text in texts]
    together = answer_prompts(model, prompts)
    for prompt, answer in zip(prompts, together, strict=True):
        logits = model.transformer.logits(model.batch([prompt.ids]))[0]
        p = logits.softmax(-1)
        assert answer.p == pytest.approx(float(p[prompt.answer[0]]), abs=1e-12)
        assert answer.rank == int((p > p[prompt.answer[0]]).sum())
        assert (answer.top, answer.p_top) == (int(p.argmax()), pytest.approx(float(p.max()), abs=1e-12))


def byte_level() -> Tokenizer:
    """A tokenizer of single bytes, as GPT-2's without its merges."""
    names = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({name: index for index, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteDecoder()
    return tokenizer


def byte_fallback() -> Tokenizer:
    """A tokenizer of a few words, which writes what it does not know as bytes, as Llama's does."""
    words = ["<unk>", "a", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: index for index, name in enumerate(words)}
    tokenizer = Tokenizer(BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = ByteFallback()
    return tokenizer


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_a_token_that_is_no_whole_character_is_shown_as_its_bytes(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    ids = tokenizer.encode("a€").ids
    assert "\N{REPLACEMENT CHARACTER}" in tokenizer.decode(ids[1:2])
    assert token_texts(tokenizer, ids) == ["a", r"\xe2", r"\x82", r"\xac"]


def test_every_byte_of_a_byte_level_vocabulary_is_shown() -> None:
    tokenizer = byte_level()
    shown = set(token_texts(tokenizer, list(range(256))))
    assert shown == {chr(byte) for byte in range(128)} | {f"\\x{byte:02x}" for byte in range(128, 256)}


def test_a_replacement_character_of_the_vocabulary_is_shown_as_bytes_too() -> None:
    tokenizer = Tokenizer(WordLevel({"\N{REPLACEMENT CHARACTER}": 0}))
    assert token_texts(tokenizer, [0]) == [r"\xef\xbf\xbd"]
