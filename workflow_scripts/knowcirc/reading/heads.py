"""What single heads attend to and write, read at the last position, and the roles that this gives them (KC section 4).

| role | attends from the last position to | its output raises most (logit lens) |
|---|---|---|
| mover | the subject | the answer |
| relation | words of the relation | a token of the answer's type |
| mixture | both | both |

The answer's type: first tokens of the relation's objects. Thresholds come from the configuration.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.facts.ranking import token_ranks
from knowcirc.models.loading import LanguageModel
from knowcirc.reading.ablation import head_name

TOP = 10
Role = Literal["mover", "relation", "mixture"]
ROLES: tuple[Role, ...] = ("mover", "relation", "mixture")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a head has a role: `attention` (share, 0 to 1), and among how many `tokens` that it raises most."""

    attention: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Context:
    """What a prompt's heads may serve: the positions of the relation's words, and tokens of the answer's type."""

    words: tuple[int, ...] = ()
    kind: frozenset[int] = frozenset()


NO_CONTEXT = Context()


@dataclass(frozen=True, slots=True)
class HeadReading:
    """One head on one prompt. `top` are the tokens that its output raises most by the logit lens.

    `rank` is the answer's rank among all tokens (from 0), `kind_rank` that of the best token of the answer's type;
    `attribution` the answer's logit that the head adds under the final norm's scale, relative to the mean over the
    vocabulary.
    """

    layer: int
    head: int
    attention: tuple[float, ...]
    to_subject: float
    to_relation: float
    top: tuple[int, ...]
    rank: int
    kind_rank: int | None
    attribution: float

    @property
    def name(self) -> str:
        """The head's name in circuits: `a23.h4`."""
        return head_name((self.layer, self.head))

    def moves(self, limits: Thresholds) -> bool:
        """Whether it attends to the subject and its output raises the answer among the first."""
        return self.to_subject >= limits.attention and self.rank < limits.tokens

    def relates(self, limits: Thresholds) -> bool:
        """Whether it attends to the relation's words and its output raises a token of the answer's type."""
        near = self.kind_rank is not None and self.kind_rank < limits.tokens
        return self.to_relation >= limits.attention and near

    def role(self, limits: Thresholds) -> Role | None:
        """The one role that it has on this prompt, or none."""
        moves, relates = self.moves(limits), self.relates(limits)
        if moves and relates:
            return "mixture"
        return "mover" if moves else "relation" if relates else None


@dataclass(frozen=True, slots=True)
class Observation:
    """All heads on one prompt, at its last position; `final` is the residual stream there after the last layer."""

    attention: Float[Tensor, "layer head pos"]
    written: Float[Tensor, "layer head d_model"]
    final: Float[Tensor, " d_model"]


def check_bare(model: LanguageModel) -> None:
    """Refuse a model that text stands before: a prompt's own tokens are read without it.

    Raises:
        ValueError: if it has such a text.
    """
    if model.before:
        raise ValueError("text stands before what this model is asked, a prompt's tokens lack it; edit its weights")


@torch.no_grad()
def observe(model: LanguageModel, prompt: Prompt) -> Observation:
    """What all heads of a prompt attend to from the last position, and what they add to the residual stream there.

    Raises:
        ValueError: after an edit in context, whose text does not stand in the prompt's tokens.
    """
    check_bare(model)
    network = model.transformer
    streams = list(network.stream(model.batch([prompt.ids])))
    attention, written = [], []
    for layer in range(network.shape.n_layers):
        pattern, mixed = network.mix(layer, streams[layer])
        attention.append(pattern[0, :, -1])
        written.append(network.head_outputs(layer, mixed[:, -1:])[0, 0])
    return Observation(torch.stack(attention), torch.stack(written), streams[-1][0, -1])


@torch.no_grad()
def answer_direction(model: LanguageModel, final: Float[Tensor, " d_model"], answer: int) -> Float[Tensor, " d_model"]:
    """What an output is multiplied by to give the answer's logit that it adds (`attributions`)."""
    network = model.transformer
    return network.final_norm.linear(final, network.unembedding[answer] - network.unembedding.mean(0))


@torch.no_grad()
def attributions(model: LanguageModel, seen: Observation, answer: int) -> Float[Tensor, "layer head"]:
    """The answer's logit that each head adds under the final norm's scale, relative to the mean over the vocabulary."""
    return seen.written @ answer_direction(model, seen.final, answer)


@torch.no_grad()
def read_outputs(
    model: LanguageModel,
    prompt: Prompt,
    seen: Observation,
    answers: Sequence[int],
    context: Context = NO_CONTEXT,
) -> list[list[HeadReading]]:
    """The readings of all heads for each of several answers.

    Raises:
        ValueError: if the prompt has no subject.
    """
    if prompt.span is None:
        raise ValueError(f"prompt {prompt.text!r} has no subject; name it")
    network = model.transformer
    logits = network.unembed(seen.written.flatten(0, 1))
    top = logits.topk(TOP).indices.tolist()
    to_subject = seen.attention[:, :, prompt.span[0] : prompt.span[1]].sum(-1).flatten().tolist()
    to_relation = seen.attention[:, :, list(context.words)].sum(-1).flatten().tolist()
    kind_ranks: list[int | None] = [None] * len(logits)
    if context.kind:
        kind = torch.tensor(sorted(context.kind), device=logits.device)
        best = kind[logits[:, kind].argmax(1)]
        kind_ranks = token_ranks(logits, best, prompt.text).tolist()
    attention = seen.attention.flatten(0, 1).tolist()
    found = []
    for answer in answers:
        ranks = token_ranks(logits, answer, prompt.text).tolist()
        attribution = attributions(model, seen, answer).flatten().tolist()
        readings = []
        for row, (layer, head) in enumerate(
            (a, b) for a in range(len(seen.written)) for b in range(seen.written.shape[1])
        ):
            readings.append(
                HeadReading(
                    layer,
                    head,
                    tuple(attention[row]),
                    to_subject[row],
                    to_relation[row],
                    tuple(top[row]),
                    ranks[row],
                    kind_ranks[row],
                    attribution[row],
                )
            )
        found.append(readings)
    return found


def read_heads(model: LanguageModel, prompt: Prompt, context: Context = Context()) -> list[HeadReading]:
    """All heads of a prompt with a subject, read at its last position for its answer.

    Raises:
        ValueError: if the prompt has no subject.
    """
    return read_outputs(model, prompt, observe(model, prompt), prompt.answer[:1], context)[0]


def find_head(readings: Collection[HeadReading], role: Role, limits: Thresholds) -> tuple[HeadReading, bool]:
    """The head of a prompt that has a role or comes nearest to it, and whether it has it.

    A mover is the one of the largest attribution; a relation head the one whose best token of the answer's type ranks
    first. Where no head has the role, it is the best-ranking of those that attend, or of all.
    """
    having = [one for one in readings if (one.moves(limits) if role == "mover" else one.relates(limits))]
    if having and role == "mover":
        return max(having, key=lambda one: one.attribution), True
    if having:
        return min(having, key=_kind_rank), True
    attend = [one for one in readings if (one.to_subject if role == "mover" else one.to_relation) >= limits.attention]
    return min(attend or readings, key=(lambda one: one.rank) if role == "mover" else _kind_rank), False


def _kind_rank(reading: HeadReading) -> int:
    return 10**9 if reading.kind_rank is None else reading.kind_rank
