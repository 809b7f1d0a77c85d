"""What a circuit is judged by at the last position: lower is better, so that a score is what an edge's loss costs.

| metric | value, mean over prompts |
|---|---|
| `nll` | negative log-likelihood of the answer, nats |
| `kc-nll` | change of the NLL from the whole model's / (T - 1), T tokens of prompt and answer: the unit of KC's code |
| `logit-diff` | minus (logit of the answer - logit of the wrong answer) |
| `kl` | KL divergence of the next-token distribution from the whole model's, nats |
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from knowcirc.models.transformer import Transformer

Metric = Literal["nll", "kc-nll", "logit-diff", "kl"]
METRICS: tuple[str, ...] = get_args(Metric)


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts and what is measured on them.

    Prompts may differ in length: they are filled up on the right, and `last` says where each ends. `clean` holds the
    whole model's log-probabilities (filled in by `anchored`); `kc-nll` and `kl` are measured from them.
    """

    metric: Metric
    ids: Int[Tensor, "batch pos"]
    last: Int[Tensor, " batch"]
    answers: Int[Tensor, " batch"]
    others: Int[Tensor, " batch"] | None = None
    clean: Float[Tensor, "batch vocab"] | None = None

    @torch.no_grad()
    def anchored(self, model: Transformer) -> "Task":
        """The same task, measured from the whole model where the metric needs it."""
        if self.metric not in ("kc-nll", "kl"):
            return self
        *_, final = model.stream(self.ids)
        rows = torch.arange(len(self.ids), device=final.device)
        return replace(self, clean=model.unembed(final[rows, self.last]).log_softmax(-1))

    def measure(self, logits: Float[Tensor, "*rows batch vocab"]) -> Float[Tensor, " *rows"]:
        """The metric, mean over the prompts."""
        return losses(self.metric, logits, self.answers, self.others, self.clean, self.last + 1).mean(-1)

    def slope(self, value: float) -> float:
        """How strongly the metric, at `value`, answers to the answer's logit: 1 - p for likelihoods; never zero."""
        if self.metric not in ("nll", "kc-nll"):
            return 1.0
        start = 0.0 if self.clean is None else -float(self.clean.gather(-1, self.answers[:, None]).mean())
        return max(1 - math.exp(min(0.0, -start - self.nats(value))), 1e-3)

    def nats(self, value: float) -> float:
        """A difference of the metric in the unit of its formula without KC's division (nats; logits)."""
        return value / self.kc_factor if self.metric == "kc-nll" else value

    @property
    def kc_factor(self) -> float:
        """Mean of 1 / (T - 1): a difference in nats times this is KC's unit."""
        return float((1 / (self.last + 1).double()).mean())


def losses(
    metric: Metric,
    logits: Float[Tensor, "*rows batch vocab"],
    answers: Int[Tensor, " batch"],
    others: Int[Tensor, " batch"] | None,
    clean: Float[Tensor, "batch vocab"] | None,
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "*rows batch"]:
    """The metric prompt by prompt; `clean` are the whole model's log-probabilities, `lengths` the prompts' tokens."""
    if metric == "logit-diff":
        chosen = torch.stack((_given(others, "wrong answers"), answers), -1).expand(*logits.shape[:-1], 2)
        other, answer = logits.gather(-1, chosen).unbind(-1)
        return other - answer
    if metric == "kl":
        whole = _given(clean, "the whole model's run")
        return (whole.exp() * (whole - logits.log_softmax(-1))).sum(-1)
    nll = _nll(logits, answers)
    if metric == "kc-nll":
        whole = _given(clean, "the whole model's run").gather(-1, answers[:, None])
        nll = (nll + whole[:, 0]) / lengths
    return nll


def _given(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise ValueError(f"the metric needs {what}; make the task with them (`make_task`, `Task.anchored`)")
    return value


def _nll(logits: Float[Tensor, "*rows batch vocab"], answers: Int[Tensor, " batch"]) -> Float[Tensor, "*rows batch"]:
    chosen = answers[:, None].expand(*logits.shape[:-1], 1)
    return -logits.log_softmax(-1).gather(-1, chosen)[..., 0]


def make_task(
    metric: Metric,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[int],
    others: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Task:
    """The task of token-id prompts, filled up on the right to the longest.

    Raises:
        ValueError: for an unknown metric, no prompts, or a logit difference without wrong answers.
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r} is none of {', '.join(METRICS)}")
    if not prompts:
        raise ValueError("a circuit needs at least one prompt")
    if metric == "logit-diff" and others is None:
        raise ValueError("metric logit-diff needs a wrong answer for each prompt; give them, or take metric nll")
    longest = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=device)
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    wrong = None if others is None else torch.tensor(list(others), device=device)
    return Task(metric, ids, last, torch.tensor(list(answers), device=device), wrong)
