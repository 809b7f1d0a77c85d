"""What a circuit is judged by at the last position: lower is better, so that a score is what an edge's loss costs.

| metric | value, mean over prompts |
|---|---|
| `nll` | negative log-likelihood of the answer, nats |
| `kc-nll` | change of the NLL from the whole model's / (T - 1), T tokens of prompt and answer: the unit of KC's code |
| `logit-diff` | minus (logit of the answer - logit of the wrong answer) |
| `kl` | KL divergence of the next-token distribution from the whole model's, nats |
| `nll+kl` | half of each: the answer, and what the model says beside it, nats |
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from knowcirc.circuits.choices import METRICS, Metric
from knowcirc.models.token_tree import TokenTree, grow, next_logits
from knowcirc.models.transformer import Transformer

ANCHORED: tuple[Metric, ...] = ("kc-nll", "kl", "nll+kl")
"""Metrics that are measured from what the whole model says."""


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts and what is measured on them.

    Prompts may differ in length: in `ids` they are filled up on the right, and `last` says where each ends. `tree`
    holds the same prompts joined at what they share. `clean` holds the whole model's log-probabilities (filled in by
    `anchored`); `kc-nll` and `kl` are measured from them.
    """

    metric: Metric
    ids: Int[Tensor, "batch pos"]
    last: Int[Tensor, " batch"]
    answers: Int[Tensor, " batch"]
    tree: TokenTree
    others: Int[Tensor, " batch"] | None = None
    clean: Float[Tensor, "batch vocab"] | None = None

    @torch.no_grad()
    def anchored(self, model: Transformer) -> "Task":
        """The same task, measured from the whole model where the metric needs it."""
        if self.metric not in ANCHORED:
            return self
        return replace(self, clean=next_logits(model, self.tree).log_softmax(-1))

    def measure(self, logits: Float[Tensor, "*rows batch vocab"]) -> Float[Tensor, " *rows"]:
        """The metric, mean over the prompts."""
        return self.each(logits).mean(-1)

    def each(
        self, logits: Float[Tensor, "*rows prompt vocab"], prompts: Sequence[int] | None = None
    ) -> Float[Tensor, "*rows prompt"]:
        """The metric of each prompt, or of those at some places of the batch, whose logits these are."""
        places = range(len(self.answers)) if prompts is None else prompts
        chosen = torch.tensor(list(places), device=self.answers.device)
        others, clean = (None if given is None else given[chosen] for given in (self.others, self.clean))
        return losses(self.metric, logits, self.answers[chosen], others, clean, self.last[chosen] + 1)

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
        return _logit(logits, _given(others, "wrong answers")) - _logit(logits, answers)
    found = logits.log_softmax(-1)
    nll = -_logit(found, answers)
    if metric == "nll":
        return nll
    whole = _given(clean, "the whole model's run")
    if metric == "kc-nll":
        return (nll + _logit(whole, answers)) / lengths
    kl = (whole.exp() * (whole - found)).sum(-1)
    return kl if metric == "kl" else (nll + kl) / 2


def _given(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise ValueError(f"the metric needs {what}; make the task with them (`make_task`, `Task.anchored`)")
    return value


def _logit(logits: Float[Tensor, "*rows batch vocab"], tokens: Int[Tensor, " batch"]) -> Float[Tensor, "*rows batch"]:
    chosen = tokens[:, None].expand(*logits.shape[:-1], 1)
    return logits.gather(-1, chosen)[..., 0]


def make_task(
    metric: Metric,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[int],
    others: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
    *,
    beside: Sequence[Sequence[Hashable]] | None = None,
) -> Task:
    """The task of token-id prompts, filled up on the right to the longest.

    `beside` says, position by position, in what else prompts must agree to share a position: the corrupted prompts'
    tokens where absent edges deliver their outputs, the group where they deliver a group's means (`grow`).

    Raises:
        ValueError: for an unknown metric, no prompts or an empty one, or a logit difference without wrong answers.
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
    tree = grow(prompts, beside=beside, device=device)
    return Task(metric, ids, last, torch.tensor(list(answers), device=device), tree, wrong)
