"""What a model or circuit says on a relation's prompts, and what tells that from a list of favourite tokens.

A circuit that always says the relation's commonest objects has them among its ten, too. So beside the answer's rank:

- right among the relation's own objects: of the first tokens of all its objects, the answer's has the highest logit
  (a tie counts against it); not read where another object begins with the same token;
- others' answers among the ten (the control): the share of the other facts' answers, distinct first tokens other than
  the prompt's own, that are among its k likeliest tokens. A circuit that knows the subject has few of them there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.knowledge import Answer, read_answers
from knowcirc.facts.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Reading:
    """One prompt: is the answer among the first k, is it first, p(answer), right among objects, others' answers.

    `others` is a share, NaN where no other fact has another answer. `among` is 1 or 0, NaN where another object begins
    with the answer's first token.
    """

    hit: bool
    first: bool
    p: float
    among: float
    others: float


def read_prompts(
    logits: Float[Tensor, "prompt vocab"],
    prompts: Sequence[Prompt],
    objects: Sequence[int],
    k: int,
    *,
    constant: bool = False,
) -> list[Reading]:
    """What the logits say of each prompt; `objects` is the first token of each of the relation's objects.

    A `constant` output hits nothing and is right on nothing, whatever its biases favour (p is what it is).

    Raises:
        ValueError: naming the prompt, if a logit is not finite.
    """
    answers = sorted({prompt.answer[0] for prompt in prompts})
    return [
        _read(row, prompt, answer, answers, objects, k, constant)
        for row, prompt, answer in zip(logits, prompts, read_answers(logits, prompts), strict=True)
    ]


def _read(
    logits: Float[Tensor, " vocab"],
    prompt: Prompt,
    answer: Answer,
    answers: Sequence[int],
    objects: Sequence[int],
    k: int,
    constant: bool,
) -> Reading:
    own = prompt.answer[0]
    others = [token for token in answers if token != own]
    alike = list(objects).count(own) > 1
    if constant:
        return Reading(False, False, answer.p, math.nan if alike else 0.0, 0.0 if others else math.nan)
    rivals = [token for token in objects if token != own]
    among = math.nan if alike else float(not rivals or bool(logits[own] > logits[rivals].max()))
    # a rank below k (ties count against) is the same as a logit above the (k + 1)-th largest
    beaten = logits.topk(k + 1).values[-1] if k < len(logits) else logits.new_tensor(-torch.inf)
    share = float((logits[others] > beaten).double().mean()) if others else math.nan
    return Reading(answer.rank < k, answer.rank == 0, answer.p, among, share)


def mean_of(readings: Sequence[Reading], measure: str) -> float:
    """The mean of a measure over the readings that have it; NaN for none."""
    values = np.array([getattr(reading, measure) for reading in readings], dtype=float)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
