"""Prompts laid out so that what they share is computed once: a tree of tokens in place of a batch of rows.

Attention is causal: what a model computes at a position depends on the tokens up to it and on nothing behind. So
prompts that begin alike (the first token, the words before the subject) have their first positions in common.

1. `grow` joins the prompts to a tree; a node is a token together with all tokens before it. Where runs differ in more
   than their tokens (another token in the corrupted prompt, another mean), that stands `beside` them and splits nodes.
2. The nodes lie along one position axis, by depth, so that a node's ancestors come before it and the roots, which
   attend to themselves alone, come first. A node attends to its ancestors (`hidden` is false there) and to itself.
3. Each prompt ends at a node, its `last`: a leaf, or within the tree where it is the beginning of another prompt;
   equal prompts end at the same one.

Prompts of any lengths share a tree, without padding. `Batch` has the same methods for prompts of equal length side by
side, so that code written for one layout runs on both.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from knowcirc.models.layers import attention_pattern, rotate
from knowcirc.models.memory import in_parts
from knowcirc.models.transformer import Transformer

SHARING = 4  # prompts in a tree, as many times as a batch of the same memory has rows: their logits take memory, too


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts of equal length, a row each."""

    ids: Int[Tensor, "batch pos"]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [self.ids.shape[1]] * len(self.ids)

    def embed(self, model: Transformer) -> Float[Tensor, "batch pos d_model"]:
        """The embedded tokens."""
        return model.embed(self.ids)

    def turn(
        self, model: Transformer, x: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos head d_head"]:
        """Rotary embedding of queries or keys; nothing in models without it."""
        return model.turn(x, 0)

    def pattern(
        self,
        model: Transformer,
        layer: int,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch pos head d_head"],
    ) -> Float[Tensor, "batch head pos pos"]:
        """Attention probabilities."""
        return model.pattern(layer, q, k)

    def at_ends(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The last position of every prompt."""
        return x[:, -1]


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Prompts joined at what they share. Activations have a batch axis of 1 and a position a node: [1, node, ...]."""

    ids: Int[Tensor, " node"]
    """The token of each node."""
    depth: Int[Tensor, " node"]
    """Its position in its prompts, from 0; it never falls along the axis."""
    hidden: Bool[Tensor, "node node"]
    """Which nodes (columns) a node (row) does not see: all but its ancestors and itself."""
    paths: Int[Tensor, "prompt pos"]
    """The node of each position of each prompt; beyond a prompt's end its last node again."""
    last: Int[Tensor, " prompt"]
    """The node at which each prompt ends."""
    leaves: Int[Tensor, " leaf"]
    """The nodes at which prompts end, each once, in the order of the prompts."""
    leaf_of: Int[Tensor, " prompt"]
    """The index among `leaves` of each prompt's last node."""
    n_roots: int
    """How many nodes have no parent; they come first."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [int(depth) + 1 for depth in self.depth[self.last]]

    def embed(self, model: Transformer) -> Float[Tensor, "1 node d_model"]:
        """The embedded tokens."""
        return model.embed_at(self.ids[None], self.depth[None])

    def turn(self, model: Transformer, x: Float[Tensor, "1 node head d_head"]) -> Float[Tensor, "1 node head d_head"]:
        """Rotary embedding of queries or keys; nothing in models without it."""
        if model.rotary is None:
            return x
        cos, sin = model.rotary.angles(x, self.depth[None])
        return rotate(x, cos[:, :, None], sin[:, :, None])

    def pattern(
        self,
        model: Transformer,
        layer: int,
        q: Float[Tensor, "1 node head d_head"],
        k: Float[Tensor, "1 node head d_head"],
    ) -> Float[Tensor, "1 head node node"]:
        """Attention probabilities."""
        att = model.blocks[layer].attention
        return attention_pattern(att, q, k, self.hidden_within(att.window))

    def hidden_within(self, window: int | None) -> Bool[Tensor, "node node"]:
        """What nodes do not see where each sees the last `window` positions of its prompts alone (None: all)."""
        if window is None or window > int(self.depth[-1]):
            return self.hidden
        return self.hidden | (self.depth[:, None] - self.depth >= window)

    def at_ends(self, x: Float[Tensor, "1 node d_model"]) -> Float[Tensor, "prompt d_model"]:
        """The last position of every prompt."""
        return x[0, self.last]

    def along(self, x: Float[Tensor, "*first node d_model"]) -> Float[Tensor, "*first prompt pos d_model"]:
        """Nodes' values prompt by prompt; beyond a prompt's end its last again."""
        return x[..., self.paths, :]

    def from_rows(self, x: Float[Tensor, "*first prompt pos d_model"]) -> Float[Tensor, "*first node d_model"]:
        """Values given prompt by prompt at the nodes: at a shared node those of one of its prompts."""
        n_prompts, longest = self.paths.shape
        positions = torch.arange(longest, device=self.paths.device)
        inside = positions <= self.depth[self.last][:, None]
        places = torch.empty_like(self.ids)
        places[self.paths[inside]] = torch.arange(n_prompts * longest, device=places.device).view_as(self.paths)[inside]
        return x.flatten(-3, -2)[..., places, :]

    def with_tokens(self, prompts: Sequence[Sequence[int]]) -> "TokenTree":
        """The same tree with other tokens, those of prompts as long as its own.

        Raises:
            ValueError: for prompts of other lengths, or that differ where the tree joins them.
        """
        if [len(prompt) for prompt in prompts] != self.lengths:
            raise ValueError(
                f"prompts of {[len(prompt) for prompt in prompts]} tokens do not fit a tree of prompts of "
                f"{self.lengths}; a corrupted prompt needs as many tokens as the clean one"
            )
        ids: dict[int, int] = {}
        for prompt, path in zip(prompts, self.paths.tolist(), strict=True):
            for position, (token, node) in enumerate(zip(prompt, path, strict=False)):
                if ids.setdefault(node, token) != token:
                    raise ValueError(
                        f"tokens {ids[node]} and {token} meet in one node at position {position}; grow the tree with "
                        "these prompts beside its own"
                    )
        return replace(self, ids=torch.tensor([ids[node] for node in range(len(self))], device=self.ids.device))


Prompts = Int[Tensor, "batch pos"] | TokenTree
Layout = Batch | TokenTree


def layout_of(prompts: Prompts) -> Layout:
    """The layout of prompts given as a tree, or as rows of equal length."""
    return prompts if isinstance(prompts, TokenTree) else Batch(prompts)


def mix(
    model: Transformer, layer: int, x: Float[Tensor, "batch pos d_model"], layout: Layout
) -> Float[Tensor, "batch pos head d_head"]:
    """The mixed values of a layer's heads, before the output matrix."""
    block = model.blocks[layer]
    normed = block.norm1(x)
    q, k = (layout.turn(model, block.attention.read_all(kind, normed)) for kind in ("q", "k"))
    v = model.expand(block.attention.read_all("v", normed))
    return torch.einsum("bhqk,bkhe->bqhe", layout.pattern(model, layer, q, model.expand(k)), v)


def next_logits(model: Transformer, prompts: Prompts) -> Float[Tensor, "prompt vocab"]:
    """The whole model's logits of the token behind each prompt."""
    layout = layout_of(prompts)
    x = layout.embed(model)
    for layer in range(model.shape.n_layers):
        x = model.finish(layer, x, mix(model, layer, x, layout))
    return model.unembed(layout.at_ends(x))


def grouped_logits(
    model: Transformer, prompts: Sequence[Sequence[int]], most: int
) -> Iterator[tuple[list[int], Float[Tensor, "prompt vocab"]]]:
    """The whole model's logits of the token behind each prompt, a tree at a time, with the prompts' indices.

    `most` is as for `groups`.
    """

    def run(group: list[int]) -> Float[Tensor, "prompt vocab"]:
        return next_logits(model, grow([prompts[i] for i in group], device=model.device))

    yield from in_parts(groups(prompts, most), run)


def grow(
    prompts: Sequence[Sequence[int]],
    *,
    beside: Sequence[Sequence[Hashable]] | None = None,
    device: torch.device | str = "cpu",
) -> TokenTree:
    """The tree of token-id prompts.

    `beside` holds, position by position, what else must agree up to a position that prompts share: the tokens of
    corrupted prompts under patching, the group of a mean; None: nothing.

    Raises:
        ValueError: for no prompts, an empty one, or something of another length beside one.
    """
    if not prompts or not all(map(len, prompts)):
        raise ValueError("a token tree needs at least one prompt, and a token in each; leave empty prompts out")
    keys = [list(row) for row in keyed(prompts, beside)]
    ids: list[int] = []
    depth: list[int] = []
    parents: list[int] = []
    paths: list[list[int]] = [[] for _ in prompts]
    for position in range(max(map(len, keys))):
        level: dict[Hashable, int] = {}
        for path, row in zip(paths, keys, strict=True):
            if position >= len(row):
                continue
            parent = path[-1] if path else -1
            node = level.setdefault((parent, row[position]), len(ids))
            if node == len(ids):
                ids.append(row[position][0])
                depth.append(position)
                parents.append(parent)
            path.append(node)
    last = [path[-1] for path in paths]
    leaves = list(dict.fromkeys(last))
    longest = max(map(len, paths))
    filled = [[*path, *[path[-1]] * (longest - len(path))] for path in paths]

    def numbers(values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, device=device)

    return TokenTree(
        ids=numbers(ids),
        depth=numbers(depth),
        hidden=torch.from_numpy(_hidden(parents)).to(device),
        paths=numbers(filled),
        last=numbers(last),
        leaves=numbers(leaves),
        leaf_of=numbers([leaves.index(node) for node in last]),
        n_roots=parents.count(-1),
    )


def keyed(
    prompts: Sequence[Sequence[int]], beside: Sequence[Sequence[Hashable]] | None = None
) -> list[list[tuple[Any, ...]]]:
    """What prompts must agree in, position by position, to share it: the token, and what stands beside it.

    Raises:
        ValueError: if a prompt and what stands beside it differ in length.
    """
    if beside is None:
        return [[(token,) for token in prompt] for prompt in prompts]
    lengths, others = [len(prompt) for prompt in prompts], [len(row) for row in beside]
    if lengths != others:
        raise ValueError(
            f"prompts have {lengths} tokens, what stands beside them {others}; a corrupted prompt needs as many "
            "tokens as the clean one"
        )
    return [list(zip(prompt, row, strict=True)) for prompt, row in zip(prompts, beside, strict=True)]


def apart(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """What to put beside prompts so that they share nothing: each prompt's own number."""
    return [[number] * len(prompt) for number, prompt in enumerate(prompts)]


def groups(
    prompts: Sequence[Sequence[int]], most: int, *, beside: Sequence[Sequence[Any]] | None = None
) -> list[list[int]]:
    """Indices of prompts in groups, a tree each, for the memory that a batch of `most` rows takes.

    A tree has no more nodes than `most` prompts of the longest length would have apart, and no more than
    `SHARING * most` prompts. Those that begin alike stand in one group, or in neighbouring ones. What stands `beside`
    must have an order.
    """
    keys = keyed(prompts, beside)
    room = most * max(map(len, keys), default=0)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    result: list[list[int]] = []
    nodes = 0
    for place, index in enumerate(order):
        # in lexical order a prompt shares nothing with the group that it does not share with its neighbour
        new = len(keys[index]) - (_shared(keys[order[place - 1]], keys[index]) if place else 0)
        if not result or nodes + new > room or len(result[-1]) == SHARING * most:
            result.append([])
            nodes, new = 0, len(keys[index])
        result[-1].append(index)
        nodes += new
    return result


def _shared(first: Sequence[object], second: Sequence[object]) -> int:
    """How many positions from the first two rows have in common."""
    for position, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return position
    return min(len(first), len(second))


def _hidden(parents: Sequence[int]) -> Bool[np.ndarray, "node node"]:
    """All but each node's ancestors and itself."""
    seen = np.eye(len(parents), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            seen[node] |= seen[parent]
    return ~seen
