"""What passes back to every receiver, by a forward pass written out head by head: to hold fast code to."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from knowcirc.circuits.graph import Graph
from knowcirc.models.layers import Norm
from knowcirc.models.transformer import Transformer


def scaled(x: Tensor, share: float) -> Tensor:
    """The same values; a share of what comes back passes on."""
    return share * x + (1 - share) * x.detach()


@dataclass
class Plain:
    """A forward pass on one prompt. `attention` None: all gradients are the network's own; else RelP's rules.

    `held` gives outputs of senders, by index, that are written in place of the computed ones.
    """

    network: Transformer
    graph: Graph
    ids: Tensor
    attention: str | None = None
    held: dict[int, Tensor] = field(default_factory=dict)
    reads: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)

    def norm(self, norm: Norm, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True) if norm.centred else x
        scale = (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt()
        scale = scale if self.attention is None else scale.detach()
        return centred / scale * norm.weight + (0.0 if norm.bias is None else norm.bias)

    def read(self, receiver: int, x: Tensor) -> Tensor:
        self.reads[receiver] = x.clone()
        return self.reads[receiver]

    def write(self, sender: int, output: Tensor) -> Tensor:
        self.outputs[sender] = self.held.get(sender, output)
        return self.outputs[sender]

    def head(self, layer: int, head: int, x: Tensor, inputs: dict[tuple[str, int], Tensor]) -> Tensor:
        graph, network = self.graph, self.network
        block, att = network.blocks[layer], network.blocks[layer].attention
        place = head // (graph.n_heads // graph.n_kv)
        own = head // network.shape.group
        for kind, at in (("q", head), ("k", place), ("v", place)):
            if (kind, at) not in inputs:
                inputs[kind, at] = self.read(graph.reads(layer, kind).start + at, x)  # type: ignore[arg-type]
        q = self.project(block.norm1, att.w_q[head], None if att.b_q is None else att.b_q[head], inputs["q", head])
        k = self.project(block.norm1, att.w_k[own], None if att.b_k is None else att.b_k[own], inputs["k", place])
        v = self.project(block.norm1, att.w_v[own], None if att.b_v is None else att.b_v[own], inputs["v", place])
        q, k = (network.turn(one[None, :, None], 0)[0, :, 0] for one in (q, k))
        scores = q @ k.T / math.sqrt(q.shape[-1])
        if self.attention == "half":
            scores = scaled(scores, 0.5)
        pattern = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf")).softmax(-1)
        mixed = (pattern.detach() if self.attention == "frozen" else pattern) @ v
        return (scaled(mixed, 0.5) if self.attention == "half" else mixed) @ att.w_o[head].T

    def project(self, norm: Norm, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        return self.norm(norm, x) @ weight.T + (0.0 if bias is None else bias)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        block, mlp = self.network.blocks[layer], self.network.blocks[layer].mlp
        normed = self.norm(block.norm2, self.read(self.graph.mlp_in(layer), x))
        up = normed @ mlp.w_in.T + (0.0 if mlp.b_in is None else mlp.b_in)
        if mlp.w_gate is None:
            hidden = self.act(layer, up)
        else:
            hidden = self.act(layer, normed @ mlp.w_gate.T + (0.0 if mlp.b_gate is None else mlp.b_gate)) * up
            hidden = hidden if self.attention is None else scaled(hidden, 0.5)
        return hidden @ mlp.w_out.T + (0.0 if mlp.b_out is None else mlp.b_out)

    def act(self, layer: int, x: Tensor) -> Tensor:
        found = self.network.blocks[layer].mlp.activation(x)
        return found if self.attention is None else x * (found / x).detach()

    def logits(self) -> Tensor:
        """Of the token behind the prompt, 1 x vocab."""
        graph, network = self.graph, self.network
        x = self.write(0, network.embed(self.ids)[0]).requires_grad_()
        for layer, block in enumerate(network.blocks):
            inputs: dict[tuple[str, int], Tensor] = {}
            written = [
                self.write(graph.head(layer, head), self.head(layer, head, x, inputs)) for head in range(graph.n_heads)
            ]
            x = x + sum(written) + (0.0 if block.attention.b_o is None else block.attention.b_o)
            x = x + self.write(graph.mlp(layer), self.mlp(layer, x))
        final = self.read(graph.final, x)
        return self.norm(network.final_norm, final[-1:]) @ network.unembedding.T

    def scores(self, loss: Tensor, difference: Tensor) -> Tensor:
        """(what senders would deliver less what they do) . (what passes back to receivers), of every edge."""
        receivers = sorted(self.reads)
        found = torch.autograd.grad(loss, [self.reads[one] for one in receivers], allow_unused=True)
        scores = torch.zeros(self.graph.n_src, self.graph.n_dst, dtype=difference.dtype)
        for receiver, passed in zip(receivers, found, strict=True):
            if passed is not None:
                scores[:, receiver] = difference.flatten(1) @ passed.flatten()
        return scores * torch.from_numpy(self.graph.valid)
