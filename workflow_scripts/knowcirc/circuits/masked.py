"""The forward pass of a circuit with a weight on every edge, its gradient, and many changed circuits side by side.

1. `run` computes the circuit on some prompts of a token tree and keeps what every sender delivers.
2. `gradient` goes back through that run: d loss / d weight of every edge, absent ones included. The gradient of an edge
   is (what its sender delivers beyond the ablation) . (gradient at its receiver), summed over positions.
3. `measure` runs many circuits that each differ from the run's by some edges. A row begins at the first layer that its
   change touches; below, it is the run.

Only heads with an edge out of them are computed: in a connected circuit the others receive nothing. Where the
heads' sum is normed, all heads are, since each counts in its scale (`patched.py`).
What an absent edge delivers is the ablation, as in `patched.py`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from knowcirc.circuits.graph import EdgeMatrix, Graph, Shares
from knowcirc.circuits.patched import Outputs
from knowcirc.models.layers import rotate
from knowcirc.models.memory import halved, room
from knowcirc.models.token_tree import TokenTree
from knowcirc.models.transformer import Transformer

SPAN = 8  # layers whose changes are summed by one product
CPU_MEMORY = 1_600_000_000  # bytes that changed circuits hold at once on a CPU


@dataclass(frozen=True, slots=True)
class Change:
    """Some edges that are put into a circuit, or taken out of it."""

    src: Int[ndarray, " edge"]
    dst: Int[ndarray, " edge"]
    present: bool

    def __len__(self) -> int:
        return len(self.src)


@dataclass(frozen=True, slots=True)
class Part:
    """The nodes of a tree that some of its prompts pass, and what the forward pass reads at them."""

    nodes: Int[Tensor, " node"]
    ends: Int[Tensor, " prompt"]  # among the nodes
    hidden: dict[int | None, Float[Tensor, "node node"]]  # by window; added to attention scores
    angles: tuple[Tensor, Tensor] | None


@dataclass(frozen=True, slots=True)
class Run:
    """A forward pass of a circuit: what senders deliver beyond the ablation, and the tensors that gradients pass."""

    edges: EdgeMatrix | Shares
    part: Part
    delivered: Float[Tensor, "src node d_model"]
    layers: tuple["_Layer", ...]
    final: Float[Tensor, "prompt d_model"]
    logits: Float[Tensor, "prompt vocab"]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Inputs and outputs of a layer's live heads and of its MLP, with the gradient's way between them."""

    heads: list[int]
    receivers: Int[Tensor, " receiver"]  # queries, keys and values of the live heads, then the MLP's input
    incoming: Float[Tensor, "dst node d_model"] | None
    written: Float[Tensor, "head node d_model"] | None
    mlp_in: Float[Tensor, "node d_model"]
    mlp_out: Float[Tensor, "node d_model"]


class MaskedModel:
    """A model whose circuits run on the prompts of one token tree.

    `absent` holds what absent edges deliver at the tree's nodes; None is zero ablation.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, graph: Graph, tree: TokenTree, absent: Outputs | None = None) -> None:
        self.model, self.graph, self.tree = model, graph, tree
        self.embedded = tree.embed(model)[0]
        self.absent = None if absent is None else absent[:, 0]
        self._constants = self._sum_constants()
        self._angles = None
        if model.rotary is not None:
            cos, sin = model.rotary.angles(self.embedded[None], tree.depth[None])
            self._angles = (cos[0], sin[0])

    def part(self, prompts: Sequence[int]) -> Part:
        """What the forward pass needs to run on some prompts of the tree."""
        tree = self.tree
        ends = tree.last[list(prompts)]
        nodes = torch.nonzero((~tree.hidden[ends]).any(0))[:, 0]
        place = torch.zeros_like(tree.ids)
        place[nodes] = torch.arange(len(nodes), device=nodes.device)
        hidden = {}
        for window in {block.attention.window for block in self.model.blocks}:
            mask = tree.hidden_within(window)[nodes][:, nodes]
            hidden[window] = torch.zeros_like(mask, dtype=self.embedded.dtype).masked_fill_(mask, float("-inf"))
        angles = None if self._angles is None else (self._angles[0][nodes], self._angles[1][nodes])
        return Part(nodes, place[ends], hidden, angles)

    def run(self, edges: EdgeMatrix | Shares, part: Part, *, grad: bool = True) -> Run:
        """The circuit's forward pass; `gradient` needs one with `grad`.

        Edges may let a share of their sender through (0 to 1), and the rest of what the ablation delivers.
        """
        graph, weights = self.graph, self._weights(edges)
        embedded = self.embedded[part.nodes]
        delivered = embedded.new_zeros(graph.n_src, *embedded.shape)
        delivered[0] = embedded - self._absent(slice(0, 1), part)[0]
        layers = []
        for layer in range(graph.n_layers):
            heads, receivers = self._live(edges, layer)
            before, written = graph.before(layer), None
            incoming = (weights[before][:, receivers].T @ delivered[before].flatten(1)).unflatten(1, embedded.shape)
            incoming[:-1] += self._constant(2 * layer, part)
            mlp_in = incoming[-1] + self._constant(2 * layer + 1, part)
            incoming_of_heads = incoming[:-1].requires_grad_(grad) if heads else None
            if incoming_of_heads is not None:
                senders = [graph.head(layer, head) for head in heads]
                with torch.set_grad_enabled(grad):
                    written = self._attend(layer, heads, incoming_of_heads[:, None], part)[:, 0]
                with torch.no_grad():
                    delivered[senders] = written - self._absent(senders, part)
                    own = weights[senders, graph.mlp_in(layer)]
                    mlp_in = mlp_in + (own @ delivered[senders].flatten(1)).view_as(mlp_in)
            mlp_in = mlp_in.detach().requires_grad_(grad)
            with torch.set_grad_enabled(grad):
                mlp_out = self.model.mlp(layer, mlp_in)
            sender = graph.mlp(layer)
            with torch.no_grad():
                delivered[sender] = mlp_out - self._absent(slice(sender, sender + 1), part)[0]
            layers.append(_Layer(heads, receivers, incoming_of_heads, written, mlp_in, mlp_out))
        final = torch.einsum("s,spd->pd", weights[:, graph.final], delivered[:, part.ends])
        final = (final + self._constant(2 * graph.n_layers, part, part.ends)).requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            logits = self.model.unembed(final)
        return Run(edges, part, delivered, tuple(layers), final, logits)

    def gradient(self, run: Run, loss: Float[Tensor, ""]) -> Float[ndarray, "src dst"]:
        """d loss / d weight of every edge of the graph between live nodes; 0 elsewhere."""
        graph, weights, delivered = self.graph, self._weights(run.edges), run.delivered
        result = weights.new_zeros(weights.shape)
        at_outputs = torch.zeros_like(delivered)
        (at_final,) = torch.autograd.grad(loss, [run.final])
        ends = delivered[:, run.part.ends]
        result[:, graph.final] = ends.flatten(1) @ at_final.flatten()
        at_outputs.index_add_(1, run.part.ends, weights[:, graph.final, None, None] * at_final)
        for layer in range(graph.n_layers - 1, -1, -1):
            tensors = run.layers[layer]
            senders, receiver = [graph.head(layer, head) for head in tensors.heads], graph.mlp_in(layer)
            (at_mlp,) = torch.autograd.grad(tensors.mlp_out, [tensors.mlp_in], at_outputs[graph.mlp(layer)])
            at_inputs = at_mlp[None]
            if tensors.incoming is not None and tensors.written is not None:
                result[senders, receiver] = delivered[senders].flatten(1) @ at_mlp.flatten()
                at_written = at_outputs[senders] + weights[senders, receiver][:, None, None] * at_mlp
                (at_heads,) = torch.autograd.grad(tensors.written, [tensors.incoming], at_written)
                at_inputs = torch.cat((at_heads, at_inputs))
            before = graph.before(layer)
            result[before, tensors.receivers] = delivered[before].flatten(1) @ at_inputs.flatten(1).T
            at_outputs[before].flatten(1).addmm_(weights[before][:, tensors.receivers], at_inputs.flatten(1))
        return result.double().cpu().numpy() * graph.valid

    @torch.no_grad()
    def measure(self, run: Run, changes: Sequence[Change], part: Part) -> Float[Tensor, "row prompt vocab"]:
        """Logits of the run's circuit with each change, on some of the run's prompts."""
        graph = self.graph
        starts = [self._start(run.edges, change) for change in changes]
        order = sorted(range(len(changes)), key=lambda row: starts[row])
        circuits = np.repeat(run.edges[None], len(changes), 0)
        for place, row in enumerate(order):
            circuits[place, changes[row].src, changes[row].dst] = changes[row].present
        starts.sort()
        each = graph.n_src * len(part.nodes) * self.embedded.shape[-1] * self.embedded.element_size()
        most = max(1, room(self.embedded.device, CPU_MEMORY) // each)

        def measured(most: int) -> Tensor:
            some = (slice(first, first + most) for first in range(0, len(changes), most))
            return torch.cat([self._measure(run, circuits[rows], starts[rows], part) for rows in some], 1)

        ends = halved(measured, min(most, len(changes)))
        weights = torch.from_numpy(circuits[:, :, graph.final]).to(ends)
        final = torch.einsum("rs,srpd->rpd", weights, ends) + self._constant(2 * graph.n_layers, part, part.ends)
        logits = self.model.unembed(final)
        return logits[torch.tensor([order.index(row) for row in range(len(changes))])]

    def _start(self, edges: EdgeMatrix, change: Change) -> int:
        """The first layer that a change touches: that of a receiver, or of a head that the run has not computed."""
        width = self.graph.layer_width
        start = int(change.dst.min()) // width
        dead = change.src[~edges[change.src].any(1) & change.present]
        layers = [(int(src) - 1) // (self.graph.n_heads + 1) for src in dead if src]
        return min([start, *layers])

    def _measure(
        self, run: Run, circuits: Bool[ndarray, "row src dst"], starts: Sequence[int], part: Part
    ) -> Float[Tensor, "src row prompt d_model"]:
        """What senders deliver at the ends of the prompts in every row; rows are in the order of their first layers.

        Below its first layer a row is the run. Above, receivers read what they do in the run, what the run's edges
        carry of the senders' changes, and what the row's own edges add or take.
        """
        graph, base = self.graph, self._weights(run.edges)
        united = np.asarray(run.edges | circuits.any(0))
        rows_of = _Rows(graph, run, circuits, starts, torch.searchsorted(run.part.nodes, part.nodes))
        for layer in range(min(starts), graph.n_layers):
            (heads, receivers), own = self._live(united, layer), graph.heads(layer)
            rows = rows_of.begin(layer)
            incoming = self._incoming(run, layer, receivers, rows_of.nodes)[:, None].repeat(1, rows, 1, 1)
            rows_of.add_changes(incoming, base[:, receivers], layer)
            rows_of.add_own(incoming[:-1], receivers[:-1])
            if heads:
                written = self._attend(layer, heads, incoming[:-1], part)
                senders = [graph.head(layer, head) for head in heads]
                rows_of.deliver(senders, written, self._absent(senders, part))
            mlp_in, sender = incoming[-1:], graph.mlp(layer)
            changes = rows_of.flat[own, : rows * rows_of.width]
            mlp_in.view(1, -1).addmm_(base[own, graph.mlp_in(layer)][None], changes)
            rows_of.add_own(mlp_in, receivers[-1:])
            written = self.model.mlp(layer, mlp_in)
            rows_of.deliver([sender], written, self._absent(slice(sender, sender + 1), part))
        return rows_of.delivered(part.ends)

    def _incoming(
        self, run: Run, layer: int, receivers: Int[Tensor, " dst"], nodes: Int[Tensor, " node"]
    ) -> Float[Tensor, "dst node d_model"]:
        """What receivers of a layer read in a run at some of its nodes, those of heads that it left out included."""
        made, before = run.layers[layer], self.graph.before(layer)
        known = torch.isin(receivers[:-1], made.receivers[:-1])
        incoming = made.mlp_in.new_empty(len(receivers), len(nodes), made.mlp_in.shape[-1])
        incoming[-1] = made.mlp_in[nodes]
        if made.incoming is not None:
            incoming[:-1][known] = made.incoming[:, nodes]
        if not known.all():
            weights = self._weights(run.edges)[before][:, receivers[:-1][~known]]
            given = run.delivered[before][:, nodes]
            incoming[:-1][~known] = (weights.T @ given.flatten(1)).unflatten(1, given.shape[1:])
            incoming[:-1][~known] += self._constant(2 * layer, run.part, nodes)
        return incoming

    def _attend(
        self, layer: int, heads: Sequence[int], incoming: Float[Tensor, "dst row node d_model"], part: Part
    ) -> Float[Tensor, "head row node d_model"]:
        """What live heads write when their queries, keys and values read inputs of their own."""
        graph, block = self.graph, self.model.blocks[layer]
        group = graph.n_heads // graph.n_kv
        pairs = sorted({head // group for head in heads})
        normed = block.norm1(incoming)
        q, k, v = normed.split((len(heads), len(pairs), len(pairs)))
        # the per-head view has a K/V input a query head, whose weights are those of its K/V head
        readers = [pair * len(block.attention.w_k) // graph.n_kv for pair in pairs]
        q = self._turn(block.attention.read("q", heads, q), part)
        k = self._turn(block.attention.read("k", readers, k), part)
        v = block.attention.read("v", readers, v)
        mine = [pairs.index(head // group) for head in heads]
        k, v = k[mine], v[mine]
        scores = block.attention.scores(torch.matmul(q, k.transpose(-1, -2))) + part.hidden[block.attention.window]
        return block.shares(block.attention.write(list(heads), torch.matmul(scores.softmax(-1), v)))

    def _turn(self, x: Float[Tensor, "n row node d_head"], part: Part) -> Float[Tensor, "n row node d_head"]:
        return x if part.angles is None else rotate(x, *part.angles)

    def _live(self, edges: EdgeMatrix | Shares, layer: int) -> tuple[list[int], Int[Tensor, " receiver"]]:
        """The heads to compute, and their inputs' receivers, followed by the MLP's."""
        graph = self.graph
        counted = edges[graph.heads(layer)].any(1) | (self.model.blocks[layer].post1 is not None)
        heads = np.flatnonzero(counted).tolist()
        pairs = sorted({head * graph.n_kv // graph.n_heads for head in heads})
        q, k, v = (graph.reads(layer, kind).start for kind in ("q", "k", "v"))  # type: ignore[arg-type]
        receivers = [*(q + h for h in heads), *(k + p for p in pairs), *(v + p for p in pairs), graph.mlp_in(layer)]
        return heads, torch.tensor(receivers, device=self.embedded.device)

    def _weights(self, edges: EdgeMatrix | Shares) -> Float[Tensor, "src dst"]:
        return torch.from_numpy(np.ascontiguousarray(edges)).to(self.embedded)

    def _absent(self, senders: slice | Sequence[int], part: Part) -> Tensor:
        """What absent edges from the senders deliver, [src, node, d_model]; zeros of size 1 under zero ablation."""
        if self.absent is None:
            return self.embedded.new_zeros(1, 1, 1)
        chosen = self.absent[senders] if isinstance(senders, slice) else self.absent[list(senders)]
        return chosen[:, part.nodes]

    def _constant(self, place: int, part: Part, ends: Tensor | None = None) -> Tensor | float:
        """What every receiver of a place reads whatever its edges; places: attention, MLP of each layer, final."""
        if self._constants is None:
            return 0.0
        nodes = part.nodes if ends is None else part.nodes[ends]
        return self._constants[place, nodes]

    def _sum_constants(self) -> Float[Tensor, "place node d_model"] | None:
        """Sums of the ablation and of the attention output biases that receivers have passed; None where all are 0."""
        graph, model = self.graph, self.model
        if self.absent is None and all(block.attention.b_o is None for block in model.blocks):
            return None
        total = torch.zeros_like(self.embedded)
        places = []

        def add(senders: slice) -> None:
            nonlocal total
            if self.absent is not None:
                total = total + self.absent[senders].sum(0)

        add(slice(0, 1))
        for layer in range(graph.n_layers):
            places.append(total)
            add(graph.heads(layer))
            if (bias := model.blocks[layer].attention.b_o) is not None:
                total = total + bias
            places.append(places[-1] if graph.parallel else total)
            add(slice(graph.mlp(layer), graph.mlp(layer) + 1))
        return torch.stack([*places, total])


class _Rows:
    """What the senders of many changed circuits deliver beyond the run that they are changes of.

    `beyond` is theirs less the run's; a row has none below its first layer. Layers are summed in spans: a span holds
    the rows that have begun by its end.
    """

    def __init__(
        self,
        graph: Graph,
        run: Run,
        circuits: Bool[ndarray, "row src dst"],
        starts: Sequence[int],
        nodes: Int[Tensor, " node"],
    ) -> None:
        self.graph, self.run, self.starts, self.nodes = graph, run, starts, nodes
        self.moved = circuits.astype(np.int8) - run.edges.astype(np.int8)
        self.beyond = run.delivered.new_empty(graph.n_src, len(circuits), len(nodes), run.delivered.shape[-1])
        self.flat, self.width = self.beyond.view(graph.n_src, -1), self.beyond[0, 0].numel()
        bounds = [*range(min(starts), graph.n_layers, SPAN), graph.n_layers]
        self.spans = [
            (first, last, sum(start < last for start in starts)) for first, last in itertools.pairwise(bounds)
        ]

    def begin(self, layer: int) -> int:
        """How many rows have begun by a layer; its senders deliver no change until they say so."""
        most = next(most for first, last, most in self.spans if first <= layer < last)
        self.beyond[self.graph.head(layer, 0) : self.graph.mlp(layer) + 1, :most] = 0.0
        return sum(start <= layer for start in self.starts)

    def deliver(self, senders: Sequence[int], written: Sequence[Tensor] | Tensor, absent: Tensor) -> None:
        """Note what senders write in the rows that have begun."""
        usual = self._given(senders) + absent
        for sender, of_rows, of_run in zip(senders, written, usual, strict=True):
            torch.sub(of_rows, of_run, out=self.beyond[sender, : len(of_rows)])

    def _given(self, senders: Sequence[int] | Int[ndarray, " src"]) -> Float[Tensor, "src node d_model"]:
        """What senders deliver in the run."""
        return self.run.delivered[torch.as_tensor(senders, device=self.nodes.device)[:, None], self.nodes]

    def add_changes(
        self, incoming: Float[Tensor, "dst row node d_model"], weights: Float[Tensor, "src dst"], layer: int
    ) -> None:
        """Add what the run's edges carry of the changes of earlier layers' senders."""
        arriving = incoming.view(len(incoming), -1)
        for first, last, most in self.spans:
            senders = slice(self.graph.before(first).stop, self.graph.before(min(last, layer)).stop)
            if senders.start < senders.stop:
                some = min(incoming.shape[1], most) * self.width
                arriving[:, :some].addmm_(weights[senders].T, self.flat[senders, :some])

    def add_own(self, incoming: Float[Tensor, "dst row node d_model"], receivers: Int[Tensor, " dst"]) -> None:
        """Add to each row what its own edges bring, or take what they would have brought."""
        if not len(receivers):
            return
        for row in range(incoming.shape[1]):
            own = self.moved[row][:, receivers.cpu().numpy()]
            src = np.flatnonzero(own.any(1))
            late = src[src >= self.graph.before(self.starts[row]).stop]
            arriving = incoming[:, row].view(len(incoming), -1)
            if len(src):
                given = self._given(src).flatten(1)
                arriving.addmm_(torch.from_numpy(own[src]).to(given).T, given)
            if len(late):
                changes = self.beyond[late, row].flatten(1)
                arriving.addmm_(torch.from_numpy(own[late]).to(changes).T, changes)

    def delivered(self, ends: Int[Tensor, " prompt"]) -> Float[Tensor, "src row prompt d_model"]:
        """What senders deliver in every row at the ends of the prompts."""
        result = self.run.delivered[:, None, self.nodes[ends]].repeat(1, len(self.starts), 1, 1)
        for first, last, most in self.spans:
            senders = slice(self.graph.before(first).stop, self.graph.before(last).stop)
            result[senders, :most] += self.beyond[senders, :most][:, :, ends]
        return result
