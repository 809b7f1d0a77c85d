"""A circuit kept in mid-run: change a few inputs, many ways at once, and recompute only what the change reaches.

1. `refresh` runs the circuit and keeps every sender's output, every receiver's input and the projections between.
2. `propagate` takes changes of some receivers of one layer, one row per way, and carries the differences upward: a
   receiver is dirty when an edge brings it a changed output, and only dirty nodes are computed. Below the layer
   nothing is.
3. A sender matters before the last position only if a path leads from it to a key or value input; all others are
   computed at the last position alone. Those paths lie above the sender, so ACDC, which goes from the last layer to the
   first, knows them for good when it comes to it (`settle`). A changed query or key moves nothing at the first
   position, which attends to itself alone: it is left out there.
4. `commit` makes one row of a propagation the new state.
5. Where the heads' sum is normed (`joint`), a changed head changes the scale of all heads of its layer: what all of
   them write is computed, at the same positions.

Prompts lie in a token tree: there is one axis of positions, the tree's nodes, and what prompts share is there once.
"The last position" means the nodes at which prompts end (leaf), "the first" the roots.

Heads of a layer are computed together, K/V inputs in the graph's view. Sources: none; the semantics are KC's
(section 3.1 of the paper and its code), the algorithm is ours.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.circuits.changes import Change, Rows, Stack
from knowcirc.circuits.constants import angles_of, biases_passed, masks_of
from knowcirc.circuits.graph import EdgeMatrix, Graph
from knowcirc.circuits.metrics import Task
from knowcirc.circuits.patched import Outputs
from knowcirc.models.layers import rotate
from knowcirc.models.token_tree import TokenTree, apart, grow
from knowcirc.models.transformer import Transformer

Deltas = Mapping[int, Float[Tensor, "row _ d_model"]]


def lay_out(task: Task, absent: Outputs | None) -> tuple[TokenTree, Float[Tensor, "src node d_model"] | None]:
    """The tree that a task's prompts share, and what absent edges deliver at its nodes.

    Raises:
        ValueError: if that has another shape than the tree or the prompts.
    """
    tree = task.tree
    if absent is None:
        return tree, None
    if absent.shape[1:3] == (1, len(tree)):
        return tree, absent[:, 0]
    if absent.shape[1:3] != task.ids.shape:
        raise ValueError(
            f"what absent edges deliver has shape {tuple(absent.shape)}; it must have {len(tree)} nodes (record it on "
            f"the task's tree) or the shape of the prompts, {tuple(task.ids.shape)}"
        )
    prompts = [ids[:length] for ids, length in zip(task.ids.tolist(), tree.lengths, strict=True)]
    tree = grow(prompts, beside=apart(prompts), device=task.ids.device)
    return tree, tree.from_rows(absent)


class CircuitState:
    """The state of the circuit `edges` on the prompts of a task.

    `absent` holds what absent edges deliver (the outputs of a corrupted run, or means); None is zero ablation. It
    lies in the task's tree ([src, 1, node, d_model]; prompts then share what they share in what stood beside them, too)
    or prompt by prompt ([src, prompt, pos, d_model]; then several prompts share nothing).
    Shapes of the state: [sender or receiver, node, d_model or d_head].
    """

    @torch.no_grad()
    def __init__(
        self, model: Transformer, graph: Graph, task: Task, edges: EdgeMatrix, absent: Outputs | None = None
    ) -> None:
        self.model, self.graph, self.task = model, graph, task
        self.tree, self.absent = lay_out(task, absent)
        self.edges = edges.copy()
        embedded = self.tree.embed(model)[0]
        nodes, size, head = len(self.tree), model.shape.d_model, model.shape.d_head
        self.outputs = embedded.new_zeros(graph.n_src, nodes, size)
        self.outputs[0] = embedded
        self.inputs = embedded.new_zeros(graph.n_dst, nodes, size)
        self.projected = embedded.new_zeros(graph.n_dst, nodes, head)
        self.mixed = embedded.new_zeros(graph.n_src, nodes, head)
        self.joint = any(block.post1 is not None for block in model.blocks)
        self.totals = embedded.new_zeros(graph.n_layers if self.joint else 0, nodes, size)  # of the heads, not normed
        self.everywhere = np.zeros(graph.n_src, dtype=bool)
        self._full, self._last = Stack(embedded), Stack(embedded)
        self._since = 0
        self._leaves = self.tree.leaves
        self._all_distinct = len(self.tree.leaves) == len(self.tree.last)
        self._ends_at_root = bool((self._leaves < self.tree.n_roots).any())
        self._masks, self._angles = masks_of(model, self.tree), angles_of(model, self.tree)
        self._keys_values = np.array(["<k>" in name or "<v>" in name for name in graph.dst_names])
        self.biases = biases_passed(model, graph)
        self.refresh(0)

    # -- the state as a whole ------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self, layer: int) -> float:
        """Recompute everything from `layer` upward; the metric of the state."""
        graph, model = self.graph, self.model
        self._since = 0
        for at in range(layer, graph.n_layers):
            receivers = range(graph.reads(at, "q").start, graph.reads(at, "v").stop)
            self.inputs[receivers.start : receivers.stop] = self.incoming_of(graph.before(at), receivers)
            for kind in ("q", "k", "v"):
                span = graph.reads(at, kind)
                normed = model.blocks[at].norm1(self.inputs[span])[:, None]
                self.projected[span] = self._project(at, kind, range(len(normed)), normed, everywhere=True)[:, 0]
            heads = list(range(graph.n_heads))
            senders = graph.heads(at)
            self.mixed[senders] = self._mix(at, heads, {}, everywhere=True)[:, 0]
            written = model.blocks[at].attention.write(heads, self.mixed[senders])
            if self.joint:
                self.totals[at] = written.sum(0)
            self.outputs[senders] = model.blocks[at].shares(written)
            receiver, mlp = graph.mlp_in(at), graph.mlp(at)
            self.inputs[receiver] = self.incoming_of(graph.before_mlp(at), range(receiver, receiver + 1))[0]
            self.outputs[mlp] = model.mlp(at, self.inputs[receiver])
        self.inputs[graph.final] = self.incoming_of(slice(0, graph.n_src), range(graph.final, graph.n_dst))[0]
        return self._finish(self.at_last(self.inputs[graph.final][None]))[0].item()

    def incoming_of(self, senders: slice, receivers: range) -> Float[Tensor, "dst node d_model"]:
        """What the receivers read: present senders' outputs, the ablation of absent ones, the biases passed."""
        present = self.edges[senders, receivers.start : receivers.stop]
        weights = torch.from_numpy(np.ascontiguousarray(present.T)).to(self.outputs)
        incoming = torch.einsum("rs,sn->rn", weights, self.outputs[senders].flatten(1))
        if self.absent is not None:
            incoming = incoming + torch.einsum("rs,sn->rn", 1 - weights, self.absent[senders].flatten(1))
        return incoming.unflatten(1, self.outputs.shape[1:]) + self.biases[receivers.start : receivers.stop, None]

    def absent_input(self, receiver: int) -> Float[Tensor, "node d_model"]:
        """What a receiver reads when no edge into it is left."""
        bias = self.biases[receiver].expand(self.outputs.shape[1:])
        if self.absent is None:
            return bias
        senders = torch.from_numpy(np.flatnonzero(self.graph.valid[:, receiver])).to(self.outputs.device)
        return bias + self.absent[senders].sum(0)

    def removal(self, senders: Sequence[int]) -> Float[Tensor, "src node d_model"]:
        """How a receiver's input changes when the edge from each sender goes."""
        outputs = self.outputs[list(senders)]
        return -outputs if self.absent is None else self.absent[list(senders)] - outputs

    def settle(self, senders: Sequence[int]) -> None:
        """Note where senders matter, once the edges out of them are decided: everywhere, or at the last position.

        They are an MLP, or all heads of a layer.
        """
        reads = self._keys_values | (self.graph.owners & self.everywhere[None]).any(1)
        matter = (self.edges[list(senders)] & reads).any(1)
        self.everywhere[list(senders)] = matter.any() if self.joint else matter

    def read_everywhere(self, receiver: int) -> bool:
        """Whether a receiver of settled senders is read at every position, or at the last alone."""
        return bool(self._keys_values[receiver] or (self.graph.owners[receiver] & self.everywhere).any())

    def at_last(self, x: Float[Tensor, "n node *rest"]) -> Float[Tensor, "n leaf *rest"]:
        """The last position of each prompt, once where prompts are equal."""
        return x[:, self._leaves]

    def _before(self, x: Float[Tensor, "n node size"], *, everywhere: bool) -> Float[Tensor, "n 1 _ size"]:
        """A part of the state at the positions that are recomputed."""
        return (x[:, self._since :] if everywhere else self.at_last(x))[:, None]

    # -- changes -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def propagate(self, layer: int, deltas: Deltas, rows: int) -> Rows:
        """The metric of each row of changes of some receivers of `layer` (n_layers: of the final residual stream).

        A change has all nodes where its receiver is read everywhere, the leaves otherwise.
        The deltas are used up: their memory is written to.
        """
        graph = self.graph
        nodes, size = self.outputs.shape[1:]
        result = Rows(self.outputs.new_empty(0))
        self._since, moved = 0, self._first_moved(layer, deltas)
        self._full.begin(rows, nodes - moved, size)
        self._last.begin(rows, len(self._leaves), size)
        for at in range(layer, graph.n_layers):
            given = deltas if at == layer else None
            changed = self._attend(at, given, result)
            self._since = moved
            self._mix_changed(at, changed, result)
            self._mlp(at, given, result)
        if layer == graph.n_layers:
            final = deltas[graph.final]
        else:
            _, change = self._last.incoming(self.edges, [graph.final])
            final = self.outputs.new_zeros(rows, len(self._leaves), size) if change is None else change[0]
        result.changes.append(Change(self.inputs, [graph.final], final[None], None, added=True))
        result.metric = self._finish(self.at_last(self.inputs[graph.final][None]) + final)
        return result

    def _first_moved(self, layer: int, deltas: Deltas) -> int:
        """The first node whose outputs can change with these receivers."""
        if layer == self.graph.n_layers or self._ends_at_root:
            return 0
        start, values = self.graph.reads(layer, "q").start, self.graph.reads(layer, "v").start
        return self.tree.n_roots if all(start <= receiver < values for receiver in deltas) else 0

    @torch.no_grad()
    def commit(self, rows: Rows, row: int) -> None:
        """Make one row of a propagation the state."""
        for change in rows.changes:
            where = torch.tensor(change.where, device=change.target.device)
            if change.since is not None:
                change.target[:, change.since :].index_put_((where,), change.rows[:, row], accumulate=change.added)
            else:
                place = (where[:, None], self._leaves)
                change.target.index_put_(place, change.rows[:, row], accumulate=change.added)

    def _finish(self, final: Float[Tensor, "row leaf d_model"]) -> Float[Tensor, " row"]:
        logits = self.model.unembed(final)
        return self.task.measure(logits if self._all_distinct else logits[:, self.tree.leaf_of])

    def _mlp(self, layer: int, given: Deltas | None, result: Rows) -> None:
        receiver, sender = self.graph.mlp_in(layer), self.graph.mlp(layer)
        everywhere = bool(self.everywhere[sender])
        if given is not None and receiver in given:
            change = given[receiver][None]
        else:
            stack = self._full if everywhere else self._last
            _, incoming = stack.incoming(self.edges, [receiver])
            if incoming is None:
                return
            change = incoming
        new = change.add_(self._before(self.inputs[receiver : receiver + 1], everywhere=everywhere))
        output = self.model.mlp(layer, new)
        output -= self._before(self.outputs[sender : sender + 1], everywhere=everywhere)
        result.changes.append(Change(self.inputs, [receiver], new, self._place(everywhere), added=False))
        result.changes.append(Change(self.outputs, [sender], output, self._place(everywhere), added=True))
        self._push([sender], output, everywhere=everywhere)

    def _push(self, senders: list[int], outputs: Tensor, *, everywhere: bool) -> None:
        if everywhere:
            self._full.add(senders, outputs)
            outputs = outputs[:, :, self._leaves - self._since]
        self._last.add(senders, outputs)

    def _place(self, everywhere: bool) -> int | None:
        return self._since if everywhere else None

    def _attend(self, layer: int, given: Deltas | None, result: Rows) -> dict[int, Tensor]:
        """The changed queries, keys and values of a layer, by receiver."""
        graph = self.graph
        changed: dict[int, Tensor] = {}
        for receivers, change, everywhere in self._incoming(layer, given):
            new = change.add_(self._before(self.inputs[receivers], everywhere=everywhere))
            place = self._place(everywhere)
            result.changes.append(Change(self.inputs, receivers, new, place, added=False))
            normed = self.model.blocks[layer].norm1(new)
            for kind in ("q", "k", "v"):
                span = graph.reads(layer, kind)
                low, high = (bisect_left(receivers, edge) for edge in (span.start, span.stop))
                if low == high:
                    continue
                local = [receiver - span.start for receiver in receivers[low:high]]
                projected = self._project(layer, kind, local, normed[low:high], everywhere=everywhere)
                result.changes.append(Change(self.projected, receivers[low:high], projected, place, added=False))
                changed |= dict(zip(receivers[low:high], projected, strict=True))
        return changed

    def _mix_changed(self, layer: int, changed: Mapping[int, Tensor], result: Rows) -> None:
        """What the heads with changed queries, keys or values write."""
        if not changed:
            return
        graph = self.graph
        hit = np.asarray(graph.owners[list(changed)].any(0))[graph.heads(layer)]
        living = self.edges[graph.heads(layer)].any(1)
        if self.joint:
            if living.any():
                self._mix_jointly(layer, np.flatnonzero(hit).tolist(), changed, result)
            return
        alive = np.flatnonzero(hit & living).tolist()
        for everywhere in (True, False):
            heads = [head for head in alive if self.everywhere[graph.head(layer, head)] == everywhere]
            if not heads:
                continue
            senders = [graph.head(layer, head) for head in heads]
            change = self._mix(layer, heads, changed, everywhere=everywhere)
            change -= self._before(self.mixed[senders], everywhere=everywhere)
            output = self.model.blocks[layer].attention.write(heads, change)
            result.changes.append(Change(self.mixed, senders, change, self._place(everywhere), added=True))
            result.changes.append(Change(self.outputs, senders, output, self._place(everywhere), added=True))
            self._push(senders, output, everywhere=everywhere)

    def _mix_jointly(self, layer: int, heads: list[int], changed: Mapping[int, Tensor], result: Rows) -> None:
        """The same where the heads' sum is normed: all heads of the layer write something else."""
        graph, block = self.graph, self.model.blocks[layer]
        every, first = list(range(graph.n_heads)), graph.head(layer, 0)
        everywhere, senders = bool(self.everywhere[first]), list(range(first, first + graph.n_heads))
        hit = [graph.head(layer, head) for head in heads]
        change = self._mix(layer, heads, changed, everywhere=everywhere)
        change -= self._before(self.mixed[hit], everywhere=everywhere)
        added = block.attention.write(heads, change)
        moved = added.sum(0, keepdim=True)
        total = moved + self._before(self.totals[layer : layer + 1], everywhere=everywhere)
        written = block.attention.write(every, self._before(self.mixed[senders], everywhere=everywhere))
        written = written.repeat(1, change.shape[1], 1, 1)
        written[heads] += added
        output = block.shares(written, total[0])
        output -= self._before(self.outputs[senders], everywhere=everywhere)
        place = self._place(everywhere)
        result.changes.append(Change(self.mixed, hit, change, place, added=True))
        result.changes.append(Change(self.totals, [layer], moved, place, added=True))
        result.changes.append(Change(self.outputs, senders, output, place, added=True))
        read = np.flatnonzero(self.edges[senders].any(1)).tolist()
        self._push([senders[head] for head in read], output[read], everywhere=everywhere)

    def _incoming(self, layer: int, given: Deltas | None) -> list[tuple[list[int], Tensor, bool]]:
        """Dirty query, key and value inputs of a layer: those read everywhere together, the others together."""
        graph = self.graph
        span = range(graph.reads(layer, "q").start, graph.reads(layer, "v").stop)
        groups: list[tuple[list[int], Tensor, bool]] = []
        if given is not None:
            for everywhere in (True, False):
                mine = [r for r in sorted(given) if r in span and self.read_everywhere(r) == everywhere]
                if mine:
                    change = torch.stack([given[r] for r in mine])
                    groups.append((mine, change, everywhere))
            return groups
        heads = self.everywhere[graph.heads(layer)]
        queries = graph.reads(layer, "q").start
        full = [queries + int(h) for h in np.flatnonzero(heads)]
        full += range(graph.reads(layer, "k").start, span.stop)
        short_queries = [queries + int(h) for h in np.flatnonzero(~heads)]
        for stack, receivers in ((self._full, full), (self._last, short_queries)):
            if receivers:
                dirty, incoming = stack.incoming(self.edges, receivers)
                if incoming is not None:
                    groups.append((dirty, incoming, stack is self._full))
        return groups

    # -- attention, heads of a layer together --------------------------------------------------------------------

    def _project(
        self,
        layer: int,
        kind: Literal["q", "k", "v"],
        local: Sequence[int],
        normed: Float[Tensor, "n row _ d_model"],
        *,
        everywhere: bool,
    ) -> Float[Tensor, "n row _ d_head"]:
        """Queries, keys or values that normed inputs give; queries and keys turned to their positions."""
        shape = self.model.shape
        if kind != "q" and self.graph.n_kv != shape.n_kv_heads:
            local = [head // shape.group for head in local]
        out = self.model.blocks[layer].attention.read(kind, local, normed)
        if kind == "v" or self._angles is None:
            return out
        cos, sin = self._angles[everywhere]
        return rotate(out, cos[-out.shape[2] :], sin[-out.shape[2] :])

    def _mix(
        self, layer: int, heads: list[int], changed: Mapping[int, Tensor], *, everywhere: bool
    ) -> Float[Tensor, "head row _ d_head"]:
        """Mixed values of the heads, with changed queries, keys and values where there are any."""
        graph = self.graph
        group = graph.n_heads // graph.n_kv
        q = self._gather([graph.reads(layer, "q").start + h for h in heads], changed, everywhere=everywhere)
        q = q[:, :, self._since :] if everywhere else q
        k = self._gather([graph.reads(layer, "k").start + h // group for h in heads], changed)
        v = self._gather([graph.reads(layer, "v").start + h // group for h in heads], changed)
        scores = self.model.blocks[layer].attention.scores(torch.matmul(q, k.transpose(-1, -2)))
        mask = self._masks[layer, everywhere][-q.shape[2] :]
        return torch.matmul(scores.masked_fill_(mask, float("-inf")).softmax(-1), v)

    def _gather(
        self, receivers: list[int], changed: Mapping[int, Tensor], *, everywhere: bool = True
    ) -> Float[Tensor, "n row _ d_head"]:
        """Projections of the receivers, those of changed inputs in every row."""
        base = self.projected[receivers]
        base = (base if everywhere else self.at_last(base))[:, None]
        found = [i for i, receiver in enumerate(receivers) if receiver in changed]
        if not found:
            return base
        rows = changed[receivers[found[0]]].shape[0]
        if len(found) == len(receivers) and base.shape[2] == changed[receivers[0]].shape[1]:
            return torch.stack([changed[receiver] for receiver in receivers])
        result = base.repeat(1, rows, 1, 1)
        for i in found:
            new = changed[receivers[i]]
            result[i, :, -new.shape[1] :] = new
        return result
