"""Prompts as tokens: what a model reads, where the subject stands in it, and which tokens answer it."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from knowcirc.facts.relations import Relation
from knowcirc.models.tokens import shown_token, token_text
from knowcirc.wording import fill_in, place_in

ANCHOR = "is"
ROLES = ("subject_first", "subject_middle", "subject_last", "first_subsequent", "further", "last")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt. `span` is the subject's token range; `answer` the tokens that complete it.

    KC's measures read `answer[0]`, the editing metrics all of `answer`.
    """

    text: str
    ids: tuple[int, ...]
    span: tuple[int, int] | None
    answer_text: str
    answer: tuple[int, ...]

    @property
    def subject_last(self) -> int:
        """Position of the subject's last token.

        Raises:
            ValueError: if the prompt has no subject.
        """
        if self.span is None:
            raise ValueError(f"prompt {self.text!r} has no subject; name it")
        return self.span[1] - 1


def answer_tokens(tokenizer: Tokenizer, answer: str) -> tuple[int, ...]:
    """Tokens of " answer" as it continues a text, without special tokens.

    Raises:
        ValueError: if the answer is empty or begins with a space.
    """
    if not answer or answer != answer.strip():
        raise ValueError(f"answer {answer!r}: give it without spaces around it; one is put in front")
    anchor = tokenizer.encode(ANCHOR, add_special_tokens=False).ids
    ids = tokenizer.encode(f"{ANCHOR} {answer}", add_special_tokens=False).ids
    if ids[: len(anchor)] != anchor:
        raise ValueError(f"answer {answer!r} merges with the text before it in this tokenizer")
    return tuple(ids[len(anchor) :])


def tokenise(
    tokenizer: Tokenizer, text: str, answer: str, subject: str | None = None, start: int | None = None
) -> Prompt:
    """`text` as tokens, special tokens as the tokenizer adds them.

    The subject is searched by character offsets, at `start` or where it occurs last.

    Raises:
        ValueError: if the subject is not in the text or covers no token of its own, or the text begins with the token
            that the tokenizer puts in front.
    """
    encoded = tokenizer.encode(text)
    front = next((index for index, special in enumerate(encoded.special_tokens_mask) if not special), 0)
    if front and text.startswith(typed := str(tokenizer.id_to_token(encoded.ids[front - 1]))):
        raise ValueError(f"prompt {text!r} begins with {typed!r}, which the tokenizer puts there itself; leave it out")
    span = None
    if subject is not None:
        span = subject_span(text, subject, encoded.offsets, start)
    return Prompt(text, tuple(encoded.ids), span, answer, answer_tokens(tokenizer, answer))


def subject_span(
    text: str, subject: str, offsets: Sequence[tuple[int, int]], start: int | None = None
) -> tuple[int, int]:
    """Token range of `subject` in `text`.

    Raises:
        ValueError: if it cannot be found.
    """
    if start is None:
        start = text.rfind(subject) if subject else -1
        if start < 0:
            raise ValueError(f"subject {subject!r} does not occur in the prompt {text!r}")
        if text.count(subject) > 1:
            log.warning("subject %r occurs %d times in %r; taking the last", subject, text.count(subject), text)
    end = start + len(subject)
    tokens = [index for index, (low, high) in enumerate(offsets) if low < high and low < end and high > start]
    if not tokens:
        raise ValueError(f"subject {subject!r} covers no token of the prompt {text!r}")
    return tokens[0], tokens[-1] + 1


def word_positions(tokenizer: Tokenizer, prompt: Prompt, words: Sequence[str]) -> tuple[int, ...]:
    """Positions of the tokens that overlap any of the words in the prompt's text, outside the subject.

    Words are found whole and in any case: `speak` is not in `speaker`.
    """
    offsets = tokenizer.encode(prompt.text).offsets
    pattern = "|".join(re.escape(word) for word in words)
    spans = [match.span() for match in re.finditer(rf"\b(?:{pattern})\b", prompt.text, re.IGNORECASE)] if words else []
    inside = range(*prompt.span) if prompt.span else range(0)
    return tuple(
        index
        for index, (low, high) in enumerate(offsets)
        if index not in inside and any(low < end and start < high for start, end in spans)
    )


def fill(tokenizer: Tokenizer, template: str, subject: str, answer: str) -> Prompt:
    """The template's prompt for one fact; `{}` in it gives way to the subject, and nothing else changes.

    Raises:
        ValueError: as `fill_in` and `tokenise` do.
    """
    return tokenise(tokenizer, fill_in(template, subject), answer, subject, place_in(template))


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The tokens one by one, as people read them (`shown_token`)."""
    return [shown_token(tokenizer, token) for token in ids]


def check_relation(tokenizer: Tokenizer, relation: Relation) -> None:
    """Make sure that the first token of every answer of the relation says something.

    Raises:
        ValueError: naming the object whose first token has no letter or digit.
    """
    for text in relation.objects:
        if not any(character.isalnum() for character in token_text(tokenizer, answer_tokens(tokenizer, text)[:1])):
            raise ValueError(f"relation {relation.name}: the first token of {text!r} holds no letter or digit")


def alike_objects(tokenizer: Tokenizer, relation: Relation) -> list[list[str]]:
    """The objects of the relation that cannot be told apart by their first token, group by group."""
    groups: dict[int, list[str]] = {}
    for text in relation.objects:
        groups.setdefault(answer_tokens(tokenizer, text)[0], []).append(text)
    return [texts for texts in groups.values() if len(texts) > 1]


def token_roles(length: int, span: tuple[int, int]) -> list[str | None]:
    """The role of each position in causal tracing; None before the subject.

    The subject's last token wins over its first, so a one-token subject is `subject_last`.

    >>> token_roles(6, (1, 3))
    [None, 'subject_first', 'subject_last', 'first_subsequent', 'further', 'last']
    """
    first, end = span
    roles: list[str | None] = [None] * length
    for position in range(first, length):
        if position < end:
            roles[position] = "subject_middle"
        else:
            roles[position] = "first_subsequent" if position == end else "further"
    roles[first] = "subject_first"
    if length > end:
        roles[length - 1] = "last"
    roles[end - 1] = "subject_last"
    return roles


def batches(rows: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Indices of token rows in batches of equal length, at most `most` rows each."""
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(len(row), []).append(index)
    return [group[low : low + most] for group in groups.values() for low in range(0, len(group), most)]
