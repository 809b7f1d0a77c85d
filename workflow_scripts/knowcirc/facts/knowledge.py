"""What a model knows: the rank and probability of each fact's answer, and the splits drawn from that."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt, batches
from knowcirc.models.loading import LanguageModel

BATCH = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """How a model completes a prompt. Ranks count from 0 over the vocabulary; probabilities of the first token."""

    rank: int
    p: float
    top: int
    p_top: float


def read_answers(logits: Float[Tensor, "batch vocab"], targets: Sequence[int]) -> list[Answer]:
    """The answers that next-token logits give."""
    p = logits.double().softmax(-1)
    chosen = torch.tensor(targets, device=logits.device)
    p_answer = p.gather(1, chosen[:, None])
    ranks = (p > p_answer).sum(-1)
    p_top, top = p.max(-1)
    columns = (ranks.tolist(), p_answer[:, 0].tolist(), top.tolist(), p_top.tolist())
    return [Answer(*row) for row in zip(*columns, strict=True)]


@torch.no_grad()
def answer_prompts(model: LanguageModel, prompts: Sequence[Prompt]) -> list[Answer]:
    """The whole model's answers, in the order of the prompts."""
    answers: dict[int, Answer] = {}
    for group in batches([prompt.ids for prompt in prompts], BATCH):
        logits = model.transformer.logits(model.batch([prompts[i].ids for i in group]))
        answers.update(zip(group, read_answers(logits, [prompts[i].answer[0] for i in group]), strict=True))
    return [answers[i] for i in range(len(prompts))]


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of a relation's facts on which circuits are found (`val`) and tested (`test`).

    `val_rank` is the worst rank that D_val was drawn from: 0, or `hits - 1` where too few facts rank first.
    """

    val: tuple[int, ...]
    test: tuple[int, ...]
    val_rank: int


def split_facts(ranks: Sequence[int], n_val: int, n_test: int, hits: int, seed: int) -> Split:
    """D_val from the known facts, D_test from all that remain (KC section 3.2), drawn with `seed`.

    Where the relation has fewer facts than `n_val + n_test`, both shrink in proportion.
    """
    order = np.random.default_rng(seed).permutation(len(ranks)).tolist()
    if len(ranks) < n_val + n_test:
        n_val = max(1, len(ranks) * n_val // (n_val + n_test))
        n_test = len(ranks) - n_val
    val_rank = 0 if sum(rank == 0 for rank in ranks) >= n_val else hits - 1
    val = [index for index in order if ranks[index] <= val_rank][:n_val]
    test = [index for index in order if index not in set(val)][:n_test]
    return Split(tuple(val), tuple(test), val_rank)
