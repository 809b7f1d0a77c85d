"""Changes of a circuit's state, many ways at once: what they are, and how inputs read changed outputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.circuits.graph import EdgeMatrix


@dataclass(frozen=True, slots=True)
class Change:
    """A part of the state in every row of a propagation: new values, or what is added to the old ones.

    It holds the nodes from `since` on, or those at which prompts end (None).
    """

    target: Tensor
    where: list[int]
    rows: Float[Tensor, "n row _ size"]
    since: int | None
    added: bool


@dataclass(slots=True)
class Rows:
    """What a propagation found: the metric of each row, and all that changes."""

    metric: Float[Tensor, " row"]
    changes: list[Change] = field(default_factory=list)


class Stack:
    """Changed outputs in the order in which they were computed, in one block of memory that is used again."""

    def __init__(self, like: Tensor) -> None:
        self.senders: list[int] = []
        self._memory = like.new_empty(0)
        self._block = self._memory

    def begin(self, *shape: int) -> None:
        """Empty the stack for changes of this shape a sender."""
        self.senders = []
        size = math.prod(shape)
        self._block = self._memory[: len(self._memory) // size * size].view(-1, *shape)

    def add(self, senders: Sequence[int], outputs: Float[Tensor, "src row *rest"]) -> None:
        """Put changed outputs on top."""
        start, stop = len(self.senders), len(self.senders) + len(senders)
        if stop > len(self._block):
            size = outputs[0].numel()
            memory = self._memory.new_empty(max(stop, 2 * start, 16) * size)
            block = memory.view(-1, *outputs.shape[1:])
            block[:start] = self._block[:start]
            self._memory, self._block = memory, block
        self._block[start:stop] = outputs
        self.senders += senders

    def incoming(self, edges: EdgeMatrix, receivers: Sequence[int]) -> tuple[list[int], Tensor | None]:
        """Those of the receivers that read any of the changes, and by how much their inputs change."""
        if not self.senders:
            return [], None
        sub = edges[np.ix_(self.senders, receivers)]
        dirty = np.flatnonzero(sub.any(0))
        if not len(dirty):
            return [], None
        receiver, sender = np.nonzero(sub[:, dirty].T)
        stack = self._block[: len(self.senders)]
        starts = np.searchsorted(receiver, np.arange(len(dirty)))
        places, offsets = (torch.from_numpy(array).to(stack.device) for array in (sender, starts))
        change = torch.nn.functional.embedding_bag(places, stack.view(len(stack), -1), offsets, mode="sum")
        return [receivers[int(i)] for i in dirty], change.view(-1, *stack.shape[1:])
