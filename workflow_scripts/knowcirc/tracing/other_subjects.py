"""Another subject in place of a fact's own: the corruption without noise (Zhang and Nanda 2024, arXiv 2309.16042).

The other subject is of the same relation and has another answer, which the model knows, too. It has as many tokens, and
the tokens around it stay: so every position of the corrupted run has its counterpart in the clean one.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from knowcirc.facts.prompts import Prompt, subject_span, tokenise
from knowcirc.seeding import derive
from knowcirc.tracing.causal import check_other

log = logging.getLogger(__name__)


def replaced(tokenizer: Tokenizer, prompt: Prompt, subject: str, other: str, answer: str) -> Prompt | None:
    """The prompt with another subject and its answer; None where that changes more than the subject's tokens.

    Raises:
        ValueError: if `subject` is not what the prompt's span covers.
    """
    start = _place(tokenizer, prompt, subject)
    text = prompt.text[:start] + other + prompt.text[start + len(subject) :]
    try:
        found = tokenise(tokenizer, text, answer, other, start)
        check_other(prompt, found)
    except ValueError:
        return None
    return found if found.span == prompt.span else None


def _place(tokenizer: Tokenizer, prompt: Prompt, subject: str) -> int:
    """Where the subject that the prompt's span covers begins in its text."""
    offsets, start = tokenizer.encode(prompt.text).offsets, prompt.text.find(subject)
    while start >= 0:
        if subject_span(prompt.text, subject, offsets, start) == prompt.span:
            return start
        start = prompt.text.find(subject, start + 1)
    raise ValueError(f"prompt {prompt.text!r}: its subject is not {subject!r}")


def other_subjects(
    tokenizer: Tokenizer, rows: pd.DataFrame, prompts: Sequence[Prompt], pool: pd.DataFrame, seed: int
) -> dict[Prompt, Prompt]:
    """For each prompt that has one, the prompt of another subject, drawn by seed; the others are named in the log.

    `rows` are the prompts' facts, with relation and subject; `pool` the facts that subjects are drawn from, with
    relation, subject and answer.
    """
    found: dict[Prompt, Prompt] = {}
    without = []
    for row, prompt in zip(rows.itertuples(), prompts, strict=True):
        own = pool[(pool["relation"] == row.relation) & (pool["subject"] != row.subject)]
        pairs = zip(own["subject"], own["answer"], strict=True)
        fitting = [other for pair in pairs if (other := replaced(tokenizer, prompt, str(row.subject), *pair))]
        fitting = [other for other in fitting if other.answer[0] != prompt.answer[0]]
        if fitting:
            rng = np.random.default_rng(derive(seed, "other subject", prompt.text))
            found[prompt] = fitting[int(rng.integers(len(fitting)))]
        else:
            without.append(str(row.subject))
    if without:
        names = ", ".join(dict.fromkeys(without))
        log.warning("left out, as no other subject of the relation has as many tokens and another answer: %s", names)
    return found
