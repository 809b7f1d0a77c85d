"""How much a pass takes on at once, and smaller passes where memory runs out.

Sizes of passes change results by rounding alone: rows of a batch do not see each other.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")
CPU_MEMORY = 128 * 2**20
"""Bytes that one pass may take on a CPU; more makes it no faster, and the C library keeps several times as much."""
GPU_SHARE = 4  # a pass may take a quarter of what is free: estimates leave out what operators need in between
TOO_SMALL = (
    "the GPU's memory is too small even for the smallest pass; use device cpu, or a larger GPU, or let fewer jobs "
    "share one"
)
log = logging.getLogger(__name__)


def room(device: torch.device, on_cpu: int = CPU_MEMORY) -> int:
    """Bytes that one pass may take: a quarter of what is free on a GPU, `on_cpu` on a CPU."""
    return int(torch.cuda.mem_get_info(device)[0]) // GPU_SHARE if device.type == "cuda" else on_cpu


def halved(attempt: Callable[[int], Result], size: int, *, least: int = 1) -> Result:
    """What `attempt` gives for `size`, or for half as much, and so on, where memory runs out.

    Raises:
        ValueError: if it runs out for `least`, too.
    """
    while True:
        if (found := _tried(attempt, size)) is not None:
            return found[0]
        if size <= least:
            raise ValueError(TOO_SMALL)
        size = max(least, size // 2)
        log.warning("out of memory: tried again with passes of half the size (%d)", size)


def in_parts(
    groups: Iterable[Sequence[int]], work: Callable[[list[int]], Result]
) -> Iterator[tuple[list[int], Result]]:
    """What `work` gives for each group of indices, with the group; one that does not fit in memory is cut in two.

    Raises:
        ValueError: if a group of one does not fit.
    """
    waiting = [list(group) for group in groups][::-1]
    while waiting:
        group = waiting.pop()
        if (found := _tried(work, group)) is not None:
            yield group, found[0]
        elif len(group) == 1:
            raise ValueError(TOO_SMALL)
        else:
            middle = len(group) // 2
            waiting += [group[middle:], group[:middle]]
            log.warning("out of memory: %d prompts are taken in two parts", len(group))


Argument = TypeVar("Argument")


def _tried(attempt: Callable[[Argument], Result], argument: Argument) -> tuple[Result] | None:
    """What an attempt gives, in a tuple; None if memory ran out, and then what it held is free again."""
    try:
        return (attempt(argument),)
    except torch.OutOfMemoryError:
        pass
    gc.collect()  # behind the except clause, where nothing holds the frames of the attempt any more
    torch.cuda.empty_cache()  # does nothing where no GPU was used
    return None
