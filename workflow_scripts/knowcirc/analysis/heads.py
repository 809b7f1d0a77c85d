"""What single heads attend to and write, read at the last position; the mover head of a fact (KC section 4.1)."""

from collections.abc import Collection
from dataclasses import dataclass

import torch

from knowcirc.facts.prompts import Prompt
from knowcirc.models.loading import LanguageModel

TOP = 10


@dataclass(frozen=True, slots=True)
class HeadReading:
    """One head on one prompt. `top` are the tokens that its output raises most by the logit lens.

    `rank` is the answer's rank among all tokens (from 0); `attribution` the answer's logit that the head adds
    under the final norm's scale, relative to the mean over the vocabulary.
    """

    layer: int
    head: int
    attention: tuple[float, ...]
    to_subject: float
    top: tuple[int, ...]
    rank: int
    attribution: float

    @property
    def name(self) -> str:
        """The head's name in circuits: `a23.h4`."""
        return f"a{self.layer}.h{self.head}"

    def moves(self, attention: float, rank: int) -> bool:
        """Whether it is a mover: it attends to the subject and its output raises the answer among the first."""
        return self.to_subject >= attention and self.rank < rank


@torch.no_grad()
def read_heads(model: LanguageModel, prompt: Prompt) -> list[HeadReading]:
    """All heads of a prompt with a subject, read at its last position.

    Raises:
        ValueError: if the prompt has no subject.
    """
    if prompt.span is None:
        raise ValueError(f"prompt {prompt.text!r} has no subject")
    network, span, answer = model.transformer, prompt.span, prompt.answer[0]
    streams = list(network.stream(model.batch([prompt.ids])))
    norm, final = network.final_norm, streams[-1][0, -1]
    direction = norm.linear(final, network.unembedding[answer] - network.unembedding.mean(0))
    readings = []
    for layer in range(network.shape.n_layers):
        pattern, mixed = network.mix(layer, streams[layer])
        written = network.head_outputs(layer, mixed[:, -1:])[0, 0]
        logits = network.unembed(written)
        ranks = (logits > logits[:, answer, None]).sum(-1)
        for head in range(network.shape.n_heads):
            attention = pattern[0, head, -1]
            readings.append(
                HeadReading(
                    layer,
                    head,
                    tuple(attention.tolist()),
                    float(attention[span[0] : span[1]].sum()),
                    tuple(logits[head].topk(TOP).indices.tolist()),
                    int(ranks[head]),
                    float(written[head] @ direction),
                )
            )
    return readings


def find_mover(readings: Collection[HeadReading], attention: float, rank: int) -> tuple[HeadReading, bool]:
    """The mover head with the largest attribution, and whether any head meets the thresholds.

    Where none does, the head whose output ranks the answer best among those that attend to the subject (or among
    all) is given instead, and the flag says so.
    """
    movers = [reading for reading in readings if reading.moves(attention, rank)]
    if movers:
        return max(movers, key=lambda reading: reading.attribution), True
    near = [reading for reading in readings if reading.to_subject >= attention]
    return min(near or readings, key=lambda reading: reading.rank), False
