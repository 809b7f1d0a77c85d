"""The computational graph: which outputs of a transformer each of its inputs reads.

Senders are the embedding, every attention head and every MLP; receivers are each head's query, key and value
input, each MLP's input and the final residual stream. An edge runs from every sender to every later receiver;
an MLP also reads the heads of its own layer. Both are numbered in the order of the forward pass, so a set of
edges is a boolean matrix over (src, dst). In models whose layers run attention and MLP side by side (`parallel`), an
MLP does not read the heads of its own layer. Names are those of EAP-IG and the MIB benchmark: `input`, `a5.h3`,
`m7`, `a5.h3<q>`, `logits`. In the grouped view the key and value inputs are those of the K/V heads and are
named by them: `a5.h1<k>`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from knowcirc.models.shape import Shape
from knowcirc.models.table import KvView

EdgeMatrix = Bool[ndarray, "src dst"]
Shares = Float[ndarray, "src dst"]
"""How much of its sender each edge lets through, 0 to 1."""


@dataclass(frozen=True)
class Graph:
    """The graph of a model of `n_layers` and `n_heads` whose K/V inputs number `n_kv` a layer."""

    n_layers: int
    n_heads: int
    n_kv: int
    kv: KvView
    parallel: bool = False

    @classmethod
    def of(cls, shape: Shape, kv: KvView) -> "Graph":
        """The graph of a model in the grouped or the per-head view."""
        n_kv = shape.n_kv_heads if kv == "grouped" else shape.n_heads
        return cls(shape.n_layers, shape.n_heads, n_kv, kv, shape.parallel)

    @property
    def n_src(self) -> int:
        """How many senders there are."""
        return 1 + self.n_layers * (self.n_heads + 1)

    @property
    def n_dst(self) -> int:
        """How many receivers there are."""
        return self.n_layers * self.layer_width + 1

    @property
    def layer_width(self) -> int:
        """Receivers in a layer: queries, keys, values, MLP."""
        return self.n_heads + 2 * self.n_kv + 1

    def head(self, layer: int, head: int) -> int:
        """Sender index of a head."""
        return 1 + layer * (self.n_heads + 1) + head

    def mlp(self, layer: int) -> int:
        """Sender index of an MLP."""
        return 1 + layer * (self.n_heads + 1) + self.n_heads

    def heads(self, layer: int) -> slice:
        """Sender indices of a layer's heads."""
        return slice(self.head(layer, 0), self.head(layer, 0) + self.n_heads)

    def before(self, layer: int) -> slice:
        """Senders that a layer's attention reads."""
        return slice(0, self.head(layer, 0))

    def before_mlp(self, layer: int) -> slice:
        """Senders that a layer's MLP reads."""
        return self.before(layer) if self.parallel else slice(0, self.mlp(layer))

    def reads(self, layer: int, kind: Literal["q", "k", "v"]) -> slice:
        """Receiver indices of a layer's query, key or value inputs."""
        start = layer * self.layer_width
        if kind == "q":
            return slice(start, start + self.n_heads)
        start += self.n_heads + (self.n_kv if kind == "v" else 0)
        return slice(start, start + self.n_kv)

    def mlp_in(self, layer: int) -> int:
        """Receiver index of an MLP's input."""
        return (layer + 1) * self.layer_width - 1

    @property
    def final(self) -> int:
        """Receiver index of the final residual stream."""
        return self.n_dst - 1

    @cached_property
    def valid(self) -> EdgeMatrix:
        """All edges of the graph."""
        valid = np.zeros((self.n_src, self.n_dst), dtype=bool)
        for layer in range(self.n_layers):
            start = layer * self.layer_width
            valid[self.before(layer), start : start + self.layer_width] = True
            valid[self.before_mlp(layer), self.mlp_in(layer)] = True
        valid[:, self.final] = True
        return valid

    @property
    def n_edges(self) -> int:
        """How many edges the graph has."""
        return int(self.valid.sum())

    @cached_property
    def src_names(self) -> list[str]:
        """Names of the senders."""
        names = ["input"]
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)] + [f"m{layer}"]
        return names

    @cached_property
    def dst_names(self) -> list[str]:
        """Names of the receivers."""
        names: list[str] = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.n_heads)]
            names += [f"a{layer}.h{head}<{kind}>" for kind in "kv" for head in range(self.n_kv)]
            names.append(f"m{layer}")
        return [*names, "logits"]

    @cached_property
    def node_names(self) -> tuple[list[str], list[str]]:
        """Senders and receivers as ACDC's code names them: `embed`, `a5.h3`, `m7`; `a5.h3.q_in`, `m7.in`, `final`."""
        receivers = []
        for name in self.dst_names[:-1]:
            node, _, kind = name.rstrip(">").partition("<")
            receivers.append(f"{node}.{kind}_in" if kind else f"{node}.in")
        return ["embed", *self.src_names[1:]], [*receivers, "final"]

    @cached_property
    def owners(self) -> Bool[ndarray, "dst src"]:
        """Which senders compute their output from each receiver (several heads of a group share a K/V input)."""
        owners = np.zeros((self.n_dst, self.n_src), dtype=bool)
        group = self.n_heads // self.n_kv
        for layer in range(self.n_layers):
            for head in range(self.n_heads):
                source = self.head(layer, head)
                owners[self.reads(layer, "q").start + head, source] = True
                for kind in ("k", "v"):
                    owners[self.reads(layer, kind).start + head // group, source] = True  # type: ignore[arg-type]
            owners[self.mlp_in(layer), self.mlp(layer)] = True
        return owners

    @cached_property
    def projections(self) -> Bool[ndarray, " dst"]:
        """Receivers with an edge of their own to a head's query, key or value: all of them in the per-head view."""
        return np.array([self.kv == "per_head" and "<" in name for name in self.dst_names])

    @cached_property
    def latest_first(self) -> Int[ndarray, " src"]:
        """Senders from the last layer to the embedding, in a layer the MLP, then the heads upward (ACDC's order)."""
        layers = range(self.n_layers - 1, -1, -1)
        order = [i for at in layers for i in (self.mlp(at), *range(self.head(at, 0), self.mlp(at)))]
        return np.array([*order, 0])

    def edge_name(self, src: int, dst: int) -> str:
        """An edge as EAP-IG writes it: `a5.h3->m7`, `m2->a4.h1<q>`."""
        return f"{self.src_names[src]}->{self.dst_names[dst]}"

    def edges(self, chosen: EdgeMatrix | None = None) -> Iterator[tuple[int, int]]:
        """(src, dst) of the chosen edges, or of all, receiver by receiver."""
        matrix = self.valid if chosen is None else chosen
        for dst, src in zip(*np.nonzero(matrix.T), strict=True):
            yield int(src), int(dst)

    def nodes(self, edges: EdgeMatrix) -> Bool[ndarray, " src"]:
        """Senders that take part in a circuit: those with an edge out of them."""
        return np.asarray(edges.any(axis=1))

    def merged(self, edges: EdgeMatrix) -> int:
        """How many edges a circuit has with the query, key and value inputs of a head taken as one (KC's count).

        Pairs of a sender and a head or MLP that takes part, or the final stream. What enters a K/V head enters every
        query head of its group and counts for each, so the grouped and the per-head view give the same number.
        """
        pairs = (edges.astype(int) @ self.owners.astype(int) > 0) & self.nodes(edges)
        return int(pairs.sum() + edges[:, self.final].sum())

    def connected(self, edges: EdgeMatrix) -> EdgeMatrix:
        """The edges that lie on some path from the embedding to the final residual stream."""
        alive = edges & self.valid
        while True:
            incoming = alive.any(0)
            reached = (self.owners & incoming[:, None]).any(0)
            reached[0] = True
            useful_src = alive.any(1)
            useful_dst = (self.owners & useful_src[None]).any(1)
            useful_dst[self.final] = True
            kept: EdgeMatrix = alive & reached[:, None] & useful_dst[None]
            if (kept == alive).all():
                return kept
            alive = kept
