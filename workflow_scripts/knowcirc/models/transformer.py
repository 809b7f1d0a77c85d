"""A decoder-only transformer as plain tensors: the one forward pass that every experiment shares.

The weights are views of a Hugging Face model's parameters in one orientation, so that an edit of either is
seen by both. Families differ in how the views are made (`gpt2.py`, `llama.py`), in the norm, in positions
(learned or rotary) and in the MLP (gated or not); everything above that is common.

Activations carry the axes batch, pos, head, d_model, d_head, d_mlp, vocab, in the order of the annotations.
Prompts are never padded on the left. Padding on the right is harmless: attention is causal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from knowcirc.models.layers import Block, Norm, Rotary, Start, attention_pattern, soft_cap
from knowcirc.models.shape import Shape

KeyValue = tuple[Float[Tensor, "batch _ kv_head d_head"], Float[Tensor, "batch _ kv_head d_head"]]


HookPoint = Literal["heads", "attention", "middle", "mlp_in", "keys", "mlp"]
"""Where a layer's values can be read or replaced, in the order of the forward pass.

| hook point | value |
|---|---|
| heads | the mixed values of the heads, before the output matrix: batch x pos x head x d_head |
| attention | what attention adds to the residual stream: its output, bias and any norm behind it included |
| middle | the residual stream with that added |
| mlp_in | the residual stream as the MLP reads it (its norm not included); in parallel layers as attention does |
| keys | the input of the MLP's output matrix: batch x pos x d_mlp (ROME's keys) |
| mlp | what the MLP adds to the residual stream, as for attention |
"""
Hook = Callable[[HookPoint, Tensor], Tensor]
"""Is given a hook point and its value, and gives the value that the forward pass goes on with."""


def unchanged(point: HookPoint, value: Tensor) -> Tensor:
    """The hook that leaves everything as it is."""
    return value


def keeping(at: HookPoint, found: list[Tensor]) -> Hook:
    """The hook that adds the value at one point to `found`, and leaves everything as it is."""

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point == at:
            found.append(value)
        return value

    return hook


@dataclass(frozen=True, slots=True)
class Transformer:
    """A model's weights and its forward pass.

    `positions` is the learned position table, or None where `rotary` turns queries and keys. `mlp_out_names`
    gives the Hugging Face parameter behind each layer's MLP output matrix. Token embeddings are multiplied by
    `embed_scale`; logits are held between -`logit_cap` and `logit_cap` by a tanh (None: as they are).
    """

    shape: Shape
    embedding: Float[Tensor, "vocab d_model"]
    positions: Float[Tensor, "context d_model"] | None
    rotary: Rotary | None
    blocks: tuple[Block, ...]
    final_norm: Norm
    unembedding: Float[Tensor, "vocab d_model"]
    mlp_out_names: tuple[str, ...]
    embed_scale: float = 1.0
    logit_cap: float | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.embedding.device

    def embed(self, ids: Int[Tensor, "batch pos"], start: int = 0) -> Float[Tensor, "batch pos d_model"]:
        """Token embeddings, plus learned positions counted from `start`.

        Raises:
            ValueError: for more positions than the model has, or (on a CPU) token ids outside its vocabulary.
        """
        x = self.tokens(ids)
        if self.positions is None:
            return x
        if (end := start + ids.shape[1]) > len(self.positions):
            raise ValueError(f"a text of {end} tokens is too long, this model reads {len(self.positions)}; shorten it")
        return x + self.positions[start:end]

    def tokens(self, ids: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows d_model"]:
        """Token embeddings as the residual stream begins with them, without positions.

        Raises:
            ValueError: (on a CPU) for token ids outside the vocabulary.
        """
        try:
            x = self.embedding[ids]
        except IndexError:
            worst, most = int(ids.max()), len(self.embedding) - 1
            raise ValueError(f"token id {worst} is outside the vocabulary; its ids are 0 to {most}") from None
        return x if self.embed_scale == 1.0 else x * torch.tensor(self.embed_scale, dtype=x.dtype, device=x.device)

    def embed_at(
        self, ids: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch pos"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """Token embeddings, plus the learned ones of the given positions.

        Raises:
            ValueError: (on a CPU) for token ids outside the vocabulary.
        """
        x = self.tokens(ids)
        return x if self.positions is None else x + self.positions[positions]

    def keys_values(self, layer: int, x: Float[Tensor, "batch pos d_model"], start: Start = 0) -> KeyValue:
        """Keys (turned to their positions) and values that `layer` reads from the residual stream `x`."""
        return self._keys_values(layer, self.blocks[layer].norm1(x), start)

    def _keys_values(self, layer: int, normed: Float[Tensor, "batch pos d_model"], start: Start) -> KeyValue:
        att = self.blocks[layer].attention
        return self.turn(att.read_all("k", normed), start), att.read_all("v", normed)

    def turn(self, x: Float[Tensor, "batch pos head d_head"], start: Start) -> Float[Tensor, "batch pos head d_head"]:
        """Rotary embedding of queries or keys at positions from `start`; nothing in models without it."""
        return x if self.rotary is None else self.rotary(x, start)

    def pattern(
        self,
        layer: int,
        q: Float[Tensor, "batch pos head d_head"],
        k: Float[Tensor, "batch key head d_head"],
        hidden: Bool[Tensor, "batch past"] | None = None,
    ) -> Float[Tensor, "batch head pos key"]:
        """Attention probabilities; the queries are the last positions of the keys, the first may be hidden."""
        n_query, n_key, att = q.shape[1], k.shape[1], self.blocks[layer].attention
        every = torch.ones(n_query, n_key, dtype=torch.bool, device=q.device)
        future = every.triu(n_key - n_query + 1)
        if att.window is not None:
            future |= every.tril(n_key - n_query - att.window)
        if hidden is not None:
            future = future.repeat(len(q), 1, 1)
            future[:, :, : hidden.shape[1]] |= hidden[:, None]
            future = future[:, None]
        return attention_pattern(att, q, k, future)

    def expand(self, x: Float[Tensor, "batch pos kv_head d_head"]) -> Float[Tensor, "batch pos head d_head"]:
        """Key/value heads repeated for the query heads of their group."""
        return x.repeat_interleave(self.shape.group, 2) if self.shape.group > 1 else x

    def mix(
        self,
        layer: int,
        x: Float[Tensor, "batch pos d_model"],
        start: Start = 0,
        past: KeyValue | None = None,
        hidden: Bool[Tensor, "batch past"] | None = None,
    ) -> tuple[Float[Tensor, "batch head pos key"], Float[Tensor, "batch pos head d_head"]]:
        """Attention pattern and the mixed values of each head, before the output matrix.

        `x` is the residual stream at positions from `start` (one number, or one per row); `past` holds the keys and
        values before them, of which those marked in `hidden` are not seen.
        """
        pattern, mixed, _ = self._mix(layer, x, start, past, hidden)
        return pattern, mixed

    def _mix(
        self,
        layer: int,
        x: Float[Tensor, "batch pos d_model"],
        start: Start,
        past: KeyValue | None,
        hidden: Bool[Tensor, "batch past"] | None,
    ) -> tuple[Tensor, Tensor, KeyValue]:
        """`mix`, and the keys and values of all positions that it saw."""
        normed = self.blocks[layer].norm1(x)
        q = self.turn(self.blocks[layer].attention.read_all("q", normed), start)
        k, v = self._keys_values(layer, normed, start)
        if past is not None:
            k, v = torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)
        pattern = self.pattern(layer, q, self.expand(k), hidden)
        return pattern, torch.einsum("bhqk,bkhe->bqhe", pattern, self.expand(v)), (k, v)

    def head_outputs(
        self, layer: int, mixed: Float[Tensor, "batch pos head d_head"]
    ) -> Float[Tensor, "batch pos head d_model"]:
        """What each head adds to the residual stream (the output bias belongs to no head)."""
        block = self.blocks[layer]
        written = torch.einsum("bphe,hde->bphd", mixed, block.attention.w_o)
        return written if block.post1 is None else block.shares(written.movedim(2, 0)).movedim(0, 2)

    def attend(
        self,
        layer: int,
        x: Float[Tensor, "batch pos d_model"],
        start: Start = 0,
        past: KeyValue | None = None,
        hidden: Bool[Tensor, "batch past"] | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """What attention adds to the residual stream, bias included."""
        _, mixed = self.mix(layer, x, start, past, hidden)
        return self.merge(layer, mixed)

    def mlp_input(self, layer: int, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream that the layer's MLP reads, from that before the layer."""
        return x if self.shape.parallel else x + self.attend(layer, x)

    def merge(self, layer: int, mixed: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos d_model"]:
        """What attention adds to the residual stream for the mixed values of its heads, bias included."""
        block = self.blocks[layer]
        return block.attention_out(block.attention.write_all(mixed))

    def mlp(self, layer: int, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What the MLP adds to the residual stream for the stream `x` that it reads (norms included)."""
        block = self.blocks[layer]
        return block.mlp_out(block.mlp(block.norm2(x)))

    def advance(
        self,
        layer: int,
        x: Float[Tensor, "batch pos d_model"],
        start: Start = 0,
        past: KeyValue | None = None,
        hidden: Bool[Tensor, "batch past"] | None = None,
        hook: Hook = unchanged,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream after `layer`; `hook` reads or replaces what passes its hook points."""
        _, mixed = self.mix(layer, x, start, past, hidden)
        return self.finish(layer, x, mixed, hook)

    def finish(
        self,
        layer: int,
        x: Float[Tensor, "batch pos d_model"],
        mixed: Float[Tensor, "batch pos head d_head"],
        hook: Hook = unchanged,
    ) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream after `layer`, from the stream before it and the mixed values of its heads."""
        block = self.blocks[layer]
        middle = hook("middle", x + hook("attention", self.merge(layer, hook("heads", mixed))))
        read = hook("mlp_in", x if self.shape.parallel else middle)
        keys = hook("keys", block.mlp.hidden(block.norm2(read)))
        return middle + hook("mlp", block.mlp_out(block.mlp.read_out(keys)))

    def extend(
        self,
        layer: int,
        x: Float[Tensor, "batch pos d_model"],
        start: Start,
        past: KeyValue | None,
        hidden: Bool[Tensor, "batch past"] | None = None,
    ) -> tuple[Float[Tensor, "batch pos d_model"], KeyValue]:
        """The residual stream after `layer`, and the keys and values of all positions so far: text token by token."""
        _, mixed, seen = self._mix(layer, x, start, past, hidden)
        return self.finish(layer, x, mixed), seen

    def stream(self, ids: Int[Tensor, "batch pos"]) -> Iterator[Float[Tensor, "batch pos d_model"]]:
        """The residual stream before layer 0, then after each layer: n_layers + 1 tensors."""
        x = self.embed(ids)
        yield x
        for layer in range(self.shape.n_layers):
            x = self.advance(layer, x)
            yield x

    def unembed(self, x: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows vocab"]:
        """Logits of the residual stream: the final norm, then the vocabulary (the logit lens)."""
        return self.cap(torch.nn.functional.linear(self.final_norm(x), self.unembedding))

    def cap(self, logits: Float[Tensor, "*rows vocab"]) -> Float[Tensor, "*rows vocab"]:
        """Logits as the model gives them, from what its vocabulary matrix does."""
        return logits if self.logit_cap is None else soft_cap(logits, self.logit_cap)

    def logits(self, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch vocab"]:
        """Logits of the next token after the last position."""
        x = self.embed(ids)
        for layer in range(self.shape.n_layers):
            x = self.advance(layer, x)
        return self.unembed(x[:, -1])
