"""What every head and MLP of a model does on one prompt, as plain values for the circuit explorer.

1. One forward pass keeps each head's attention, what heads and MLPs write at the last position, and the stream there.
2. Each of them is read by the logit lens: the tokens that a head or an MLP raises most, and what the stream says.
3. Heads have the roles of `heads.py` where the prompt has a subject.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt
from knowcirc.facts.ranking import token_ranks
from knowcirc.models.loading import LanguageModel
from knowcirc.models.transformer import keeping
from knowcirc.reading.ablation import head_name
from knowcirc.reading.heads import NO_CONTEXT, TOP, Context, Observation, Thresholds, answer_direction, read_outputs

LENS_TOKENS = 5
MOST_ROWS = 32  # tokens up to which attention from every position is kept; of longer prompts from the last alone
Name = Callable[[Sequence[int]], list[str]]


@torch.no_grad()
def read_nodes(
    model: LanguageModel, prompt: Prompt, names: Name, limits: Thresholds, context: Context = NO_CONTEXT
) -> dict[str, object]:
    """All nodes on a prompt: `nodes` by name, `lens` before layer 0 and after each layer, `attention` by head.

    A node has role (heads, or None), top (the tokens that it raises most), rank (the answer's among them, from 1) and
    attribution (what it adds to the answer's logit, relative to the mean over the vocabulary). `lens` has the likeliest
    tokens with their probabilities, and the answer's rank and probability. `attention` holds one row per position from
    `first_row` on, over the positions up to it; shares, 0 to 1. `names` turns token ids to texts.
    """
    network = model.transformer
    x = network.embed(model.batch([prompt.ids]))
    patterns: list[Tensor] = []
    written, mlps, stream = [], [], [x[0, -1]]
    for layer in range(network.shape.n_layers):
        pattern, mixed = network.mix(layer, x)
        found: list[Tensor] = []
        x = network.finish(layer, x, mixed, keeping("mlp", found))
        patterns.append(pattern[0])
        written.append(network.head_outputs(layer, mixed[:, -1:])[0, 0])
        mlps.append(found[0][0, -1])
        stream.append(x[0, -1])
    attention, outputs = torch.stack(patterns), torch.cat([torch.stack(written), torch.stack(mlps)[:, None]], 1)
    seen = Observation(attention[:, :, -1], torch.stack(written), stream[-1])
    first = 0 if len(prompt.ids) <= MOST_ROWS else len(prompt.ids) - 1
    return {
        "prompt": prompt.text,
        "answer": names(prompt.answer[:1])[0],
        "tokens": names(prompt.ids),
        "subject": None if prompt.span is None else list(prompt.span),
        "nodes": _nodes(model, prompt, seen, outputs, names, _roles(model, prompt, seen, limits, context)),
        "lens": _lens(model, prompt, torch.stack(stream), names),
        "first_row": first,
        "attention": _rows(attention, first),
    }


def _roles(
    model: LanguageModel, prompt: Prompt, seen: Observation, limits: Thresholds, context: Context
) -> dict[str, str | None]:
    if prompt.span is None:
        return {}
    return {one.name: one.role(limits) for one in read_outputs(model, prompt, seen, prompt.answer[:1], context)[0]}


def _nodes(
    model: LanguageModel,
    prompt: Prompt,
    seen: Observation,
    outputs: Float[Tensor, "layer node d_model"],
    names: Name,
    roles: dict[str, str | None],
) -> dict[str, object]:
    """Heads, then the MLP of each layer; the last node of a layer's outputs is its MLP."""
    logits = model.transformer.unembed(outputs.flatten(0, 1))
    top = logits.topk(TOP).indices.tolist()
    ranks = token_ranks(logits, prompt.answer[0], prompt.text).tolist()
    added = (outputs @ answer_direction(model, seen.final, prompt.answer[0])).flatten().tolist()
    n_heads = outputs.shape[1] - 1
    found: dict[str, object] = {}
    for row, (best, rank, value) in enumerate(zip(top, ranks, added, strict=True)):
        layer, place = divmod(row, n_heads + 1)
        name = f"m{layer}" if place == n_heads else head_name((layer, place))
        found[name] = {"role": roles.get(name), "top": names(best), "rank": rank + 1, "attribution": round(value, 4)}
    return found


def _lens(
    model: LanguageModel, prompt: Prompt, stream: Float[Tensor, "layer d_model"], names: Name
) -> list[dict[str, object]]:
    logits = model.transformer.unembed(stream)
    ranks = token_ranks(logits, prompt.answer[0], prompt.text).tolist()
    p = logits.double().softmax(-1)
    top = p.topk(LENS_TOKENS)
    return [
        {
            "top": [[name, round(one, 5)] for name, one in zip(names(ids), values, strict=True)],
            "rank": rank + 1,
            "p": round(answer, 5),
        }
        for ids, values, rank, answer in zip(
            top.indices.tolist(), top.values.tolist(), ranks, p[:, prompt.answer[0]].tolist(), strict=True
        )
    ]


def _rows(attention: Float[Tensor, "layer head pos key"], first: int) -> dict[str, list[list[float]]]:
    values = attention.tolist()
    return {
        head_name((layer, head)): [
            [round(share, 4) for share in row[: first + place + 1]] for place, row in enumerate(pattern[first:])
        ]
        for layer, heads in enumerate(values)
        for head, pattern in enumerate(heads)
    }
