"""Restored runs of causal tracing: the corrupted run with one site made clean, many sites and draws in one pass.

A restored run equals the corrupted one below the restored layer and before the restored position, so it starts
there, on the keys and values of the corrupted run. The sites of one position, of all layers and kinds, share one
pass: each joins it at the first layer that differs from the corrupted run. In the last layer only the last token is
run. Sites and draws that would not fit in memory together are run one part after the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.ranking import check_finite
from knowcirc.models.transformer import HookPoint, KeyValue, Transformer
from knowcirc.tracing.settings import Kind


@dataclass(frozen=True, slots=True)
class Run:
    """What a run leaves at each layer, the keys and values of all positions, and the answer's probability.

    `entering` has the residual stream before each layer and after the last: n_layers + 1 tensors. `heads` has what the
    heads mixed, before the output matrix.
    """

    entering: list[Float[Tensor, "batch pos d_model"]]
    heads: list[Float[Tensor, "batch pos head d_head"]]
    attention: list[Float[Tensor, "batch pos d_model"]]
    mlp: list[Float[Tensor, "batch pos d_model"]]
    keys_values: list[KeyValue]
    p: Float[Tensor, " batch"]


@dataclass(frozen=True, slots=True)
class Site:
    """What one restored run changes at its position.

    `start` is the first layer that does not run as in the corrupted run; `window` holds the layers whose MLP or
    attention output is clean (none for states, whose clean value enters layer `start`). With a `head` it is of
    attention, and this head's part alone is clean.
    """

    kind: Kind
    layer: int
    start: int
    window: range
    head: int | None = None

    @classmethod
    def of(cls, kind: Kind, layer: int, window: int, n_layers: int) -> "Site":
        """The site of a kind at a layer; windows of MLPs and attention hold `window` layers."""
        if kind in ("mlp", "attention"):
            layers = window_layers(layer, window, n_layers)
            return cls(kind, layer, layers.start, layers)
        return cls(kind, layer, layer + 1, range(0))

    @classmethod
    def of_head(cls, layer: int, head: int) -> "Site":
        """The site of one head."""
        return cls("attention", layer, layer, range(layer, layer + 1), head)


def window_layers(layer: int, window: int, n_layers: int) -> range:
    """The layers of a window around its centre, clipped at the ends.

    >>> window_layers(2, 10, 30), window_layers(15, 10, 30)
    (range(0, 7), range(10, 20))
    """
    return range(max(0, layer - window // 2), min(n_layers, layer - (-window // 2)))


def run(network: Transformer, x: Float[Tensor, "batch pos d_model"], answer: int) -> Run:
    """A whole run from the embedded prompt `x` (positions included), with all that restored runs take from it."""
    entering, pairs = [], []
    heads: list[Tensor] = []
    attention: list[Tensor] = []
    mlp: list[Tensor] = []
    outputs: dict[HookPoint, list[Tensor]] = {"heads": heads, "attention": attention, "mlp": mlp}

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point in outputs:
            outputs[point].append(value)
        return value

    for layer in range(network.shape.n_layers):
        entering.append(x)
        pairs.append(network.keys_values(layer, x))
        x = network.advance(layer, x, hook=hook)
    entering.append(x)
    return Run(entering, heads, attention, mlp, pairs, probability(network, x, answer))


def probability(network: Transformer, x: Float[Tensor, "batch pos d_model"], answer: int) -> Float[Tensor, " batch"]:
    """Probability of the answer after the last position, in double precision.

    Raises:
        ValueError: if a logit is not finite.
    """
    logits = network.unembed(x[:, -1])
    check_finite(logits, None)
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return logits.log_softmax(-1)[:, answer].double().exp()


def restore(
    network: Transformer, clean: Run, corrupted: Run, sites: Sequence[Site], position: int, answer: int, memory: int
) -> Float[Tensor, "site draw"]:
    """Probability of the answer with each site restored at `position`, draw by draw.

    `clean` is a run of one row, `corrupted` has one row per draw; `memory` bounds the bytes that a pass takes (one site
    is run whatever it takes).
    """
    draws, length = corrupted.entering[0].shape[:2]
    order = sorted(range(len(sites)), key=lambda i: sites[i].start)
    most = max(1, memory // (draws * _bytes_a_row(network, length - position, length)))
    found = torch.zeros(len(sites), draws, dtype=torch.float64)
    for low in range(0, len(order), most):
        part = order[low : low + most]
        found[part] = _restore_together(network, clean, corrupted, [sites[i] for i in part], position, answer).cpu()
    return found


def parts_of_draws(
    network: Transformer, x: Float[Tensor, "draw pos d_model"], memory: int
) -> Iterator[Float[Tensor, "part pos d_model"]]:
    """The corrupted prompts in parts whose runs can be kept within `memory` bytes."""
    shape = network.shape
    of_heads = (shape.n_heads + 2 * shape.n_kv_heads) * shape.d_head
    numbers = x.shape[1] * shape.n_layers * (3 * shape.d_model + of_heads)
    yield from x.split(max(1, memory // (numbers * x.element_size())))


def _bytes_a_row(network: Transformer, positions: int, length: int) -> int:
    """About what one row of a pass takes: its activations, the keys and values it reads, and its logits."""
    shape = network.shape
    heads = shape.n_heads * shape.d_head
    numbers = positions * (8 * shape.d_model + 3 * shape.d_mlp + 3 * shape.n_heads * length)
    numbers += 4 * length * heads + 2 * shape.d_vocab
    return numbers * network.embedding.element_size()


def _restore_together(
    network: Transformer, clean: Run, corrupted: Run, sites: Sequence[Site], position: int, answer: int
) -> Float[Tensor, "site draw"]:
    """`restore` in one pass; the sites come in the order in which they start. Row = site x draws + draw."""
    n_layers, draws = network.shape.n_layers, len(corrupted.p)
    x, joined = corrupted.entering[0][:0, position:], 0
    for current in range(n_layers + 1):
        if joining := [site for site in sites[joined:] if site.start == current]:
            rows = _join(clean, corrupted, joining, current, position)
            x = torch.cat((x, rows)) if current < n_layers else torch.cat((x[:, -1:], rows[:, -1:]))
            joined += len(joining)
        if current < n_layers and joined:
            x = _advance(network, clean, corrupted, sites[:joined], current, position, x)
    return probability(network, x, answer).view(len(sites), draws)


def _join(
    clean: Run, corrupted: Run, sites: Sequence[Site], current: int, position: int
) -> Float[Tensor, "row pos d_model"]:
    """The rows of sites that start at the layer `current`, as they enter it."""
    rows = corrupted.entering[current][:, position:].repeat(len(sites), 1, 1)
    if states := [index for index, site in enumerate(sites) if not site.window]:
        rows.unflatten(0, (len(sites), -1))[states, :, 0] = clean.entering[current][0, position]
    return rows


def _advance(
    network: Transformer,
    clean: Run,
    corrupted: Run,
    sites: Sequence[Site],
    current: int,
    position: int,
    x: Float[Tensor, "row pos d_model"],
) -> Float[Tensor, "row out d_model"]:
    """The rows after the layer `current`; after the last layer, their last position alone."""
    keys, values = (pair[:, :position].repeat(len(sites), 1, 1, 1) for pair in corrupted.keys_values[current])
    after = x.shape[1] - 1
    if current == network.shape.n_layers - 1 and after:
        more = network.keys_values(current, x[:, :-1], position)
        past = torch.cat((keys, more[0]), 1), torch.cat((values, more[1]), 1)
        return network.advance(current, x[:, -1:], position + after, past)

    def hook(point: HookPoint, value: Tensor) -> Tensor:
        if point == "heads":
            _replace_heads(value, sites, current, clean.heads[current][0, position])
        elif point == "attention" or point == "mlp":
            own, other = (getattr(run, point)[current][:, position] for run in (clean, corrupted))
            _replace(value, sites, point, current, own[0], other)
        return value

    return network.advance(current, x, position, (keys, values), hook=hook)


def _replace(
    output: Float[Tensor, "row pos d_model"],
    sites: Sequence[Site],
    part: Literal["mlp", "attention"],
    current: int,
    clean: Float[Tensor, " d_model"],
    corrupted: Float[Tensor, "draw d_model"],
) -> None:
    """Give a layer's output at the restored position its clean or, where severed, its corrupted value, in place."""
    here = output.unflatten(0, (len(sites), -1))[:, :, 0]
    whole = [(index, site) for index, site in enumerate(sites) if site.head is None]
    if restored := [index for index, site in whole if site.kind == part and current in site.window]:
        here[restored] = clean
    if severed := [index for index, site in enumerate(sites) if site.kind == f"severed_{part}"]:
        here[severed] = corrupted


def _replace_heads(
    mixed: Float[Tensor, "row pos head d_head"],
    sites: Sequence[Site],
    current: int,
    clean: Float[Tensor, "head d_head"],
) -> None:
    """Give single heads at the restored position what they mixed in the clean run, in place."""
    here = mixed.unflatten(0, (len(sites), -1))[:, :, 0]
    found = [(i, site.head) for i, site in enumerate(sites) if site.head is not None and site.layer == current]
    if found:
        rows, heads = (list(part) for part in zip(*found, strict=True))
        here[rows, :, heads] = clean[heads][:, None]
