"""Wordings: one place gives way to the subject, letter by letter, and the subject's tokens are those of its letters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from knowcirc.behaviours.demonstrations import demonstrate
from knowcirc.facts.prompts import fill, tokenise
from knowcirc.facts.relations import Fact
from knowcirc.wording import PLACE, fill_in, place_in
from unit.tiny import words


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE, as GPT-2's: any text is tokens, and a letter may be several."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    made.train_from_iterator(["the language of France is French", "{} is a city in {country}"] * 9, trainer)
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return made


BYTES = byte_tokenizer()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
BRACED = st.text(st.sampled_from("{}ab 中é"), max_size=8)
SUBJECTS = st.one_of(TEXT, BRACED).filter(lambda text: bool(text.strip()) and text == text.strip())
AROUND = st.one_of(TEXT, BRACED).filter(lambda text: PLACE not in text and not text.startswith("<s>"))


@given(before=AROUND, subject=SUBJECTS, after=AROUND)
@settings(max_examples=200, deadline=None)
def test_the_subject_stands_in_its_place_and_its_tokens_cover_its_letters(
    before: str, subject: str, after: str
) -> None:
    template = f"{before}{PLACE}{after}"
    if template.count(PLACE) != 1:  # a brace beside the place makes a second one
        return
    start = template.index(PLACE)
    text = fill_in(template, subject)
    assert text == template[:start] + subject + template[start + 2 :]
    assert place_in(template) == start
    if text.startswith("<s>") or not subject.isprintable():
        return
    prompt = fill(BYTES, template, subject, "French")
    assert prompt.text == text
    assert prompt.span is not None
    offsets = BYTES.encode(text).offsets[slice(*prompt.span)]
    assert min(low for low, _ in offsets) <= start
    assert max(high for _, high in offsets) >= start + len(subject)
    outside = [pair for at, pair in enumerate(BYTES.encode(text).offsets) if at not in range(*prompt.span)]
    assert all(high <= start or low >= start + len(subject) for low, high in outside)


@pytest.mark.parametrize(
    ("template", "subject", "text", "start"),
    [
        ("In {country} the language of {} is", "France", "In {country} the language of France is", 29),
        ("{{}} is a city", "Lima", "{Lima} is a city", 1),
        ("the city of {} is", "{}", "the city of {} is", 12),
        ("{0} and {} and {!r}", "{0}", "{0} and {0} and {!r}", 8),
        ("{}", "}{", "}{", 0),
    ],
)
def test_nothing_but_the_place_is_read(template: str, subject: str, text: str, start: int) -> None:
    assert (fill_in(template, subject), place_in(template)) == (text, start)


@pytest.mark.parametrize("template", ["no place", "", "{ }", "{} or {}", "{}{}"])
def test_a_wording_has_one_place(template: str) -> None:
    with pytest.raises(ValueError, match=r"must hold \{\} once, where the subject stands; it has (none|2 of them)$"):
        fill_in(template, "France")


def test_braces_beside_the_place_do_not_move_the_subject() -> None:
    tokenizer = words()
    prompt = fill(tokenizer, "in {a} the language of {} is", "New Zealand", "English")
    assert prompt.text == "in {a} the language of New Zealand is"
    assert tokenizer.decode(list(prompt.ids[slice(*prompt.span)])) == "New Zealand"  # type: ignore[misc]
    shown = demonstrate(tokenizer, "in {a} {} is", [Fact("Peru", "Lima")], Fact("Chile", "Santiago"))
    assert shown.prompt.text == "in {a} Peru is Lima. in {a} Chile is"
    assert tokenizer.decode(list(shown.prompt.ids[slice(*shown.prompt.span)])) == "Chile"  # type: ignore[misc]


def test_a_start_token_typed_in_front_is_refused_where_the_tokenizer_puts_it() -> None:
    with pytest.raises(ValueError, match="begins with '<s>', which the tokenizer puts there itself; leave it out"):
        tokenise(words(), "<s> the capital of Peru is", "Lima", "Peru")
    plain = tokenise(words(bos=False), "<s> the capital of Peru is", "Lima", "Peru")
    assert plain.ids[0] == 0
    assert plain.span == (4, 5)
