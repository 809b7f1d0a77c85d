"""What a model knows: the rank and probability of each fact's answer, and the splits drawn from that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.facts.ranking import token_ranks
from knowcirc.facts.settings import Known
from knowcirc.models.loading import LanguageModel
from knowcirc.models.token_tree import grouped_logits

BATCH = 16  # rows of a batch whose memory a tree of prompts may take


@dataclass(frozen=True, slots=True)
class Answer:
    """How a model completes a prompt. Ranks count from 0 over the vocabulary; probabilities of the first token.

    `top` is the likeliest token; where the answer ties with another, that other, so that the answer is `top` exactly
    where its rank is 0.
    """

    rank: int
    p: float
    top: int
    p_top: float


def read_answers(logits: Float[Tensor, "batch vocab"], prompts: Sequence[Prompt]) -> list[Answer]:
    """The answers that next-token logits give, one row per prompt.

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    return [_read_answer(row, prompt) for row, prompt in zip(logits, prompts, strict=True)]


def _read_answer(logits: Float[Tensor, " vocab"], prompt: Prompt) -> Answer:
    answer = prompt.answer[0]
    rank = int(token_ranks(logits, answer, prompt.text))
    others = logits.clone()
    others[answer] = -torch.inf
    top = answer if rank == 0 else int(others.argmax())
    p = logits.double().softmax(-1)
    return Answer(rank, float(p[answer]), top, float(p[top]))


@torch.no_grad()
def answer_prompts(model: LanguageModel, prompts: Sequence[Prompt]) -> list[Answer]:
    """The whole model's answers, in the order of the prompts; what prompts share is computed once.

    Raises:
        ValueError: naming the prompt, if a logit is not finite; as `LanguageModel.check_rows` does.
    """
    model.check_rows(prompt.ids for prompt in prompts)
    answers: dict[int, Answer] = {}
    for group, logits in grouped_logits(model.transformer, [prompt.ids for prompt in prompts], BATCH):
        answers.update(zip(group, read_answers(logits, [prompts[i] for i in group]), strict=True))
    return [answers[i] for i in range(len(prompts))]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of a relation's facts on which circuits are found (`val`) and tested (`test`).

    `val_rank` is the worst rank that D_val was drawn from: 0, or `hits - 1` where that is asked for or too few facts
    rank first.
    """

    val: tuple[int, ...]
    test: tuple[int, ...]
    val_rank: int


def split_facts(ranks: Sequence[int], n_val: int, n_test: int, hits: int, seed: int, known: Known = "rank1") -> Split:
    """D_val from the known facts, D_test from all that remain (KC section 3.3), drawn with `seed`.

    `known` says which facts D_val may hold: those whose answer ranks first, or those with it among the `hits`
    likeliest. Where the relation has fewer facts than `n_val + n_test`, both shrink in proportion.
    """
    order = np.random.default_rng(seed).permutation(len(ranks)).tolist()
    if len(ranks) < n_val + n_test:
        n_val = max(1, len(ranks) * n_val // (n_val + n_test))
        n_test = len(ranks) - n_val
    val_rank = 0 if known == "rank1" and sum(rank == 0 for rank in ranks) >= n_val else hits - 1
    val = [index for index in order if ranks[index] <= val_rank][:n_val]
    test = [index for index in order if index not in set(val)][:n_test]
    return Split(tuple(val), tuple(test), val_rank)
