"""MEMIT, mass-editing memory in a transformer (Meng et al. 2023, arXiv 2210.07229, section 4), and what builds on it.

1. z_i: the residual stream after the last edited layer, at each fact's last subject token, that makes the model say
   the new object (`values.py`).
2. From the first edited layer to the last: the keys K (d_mlp x facts, averaged over contexts) and what is still
   missing, z_i less the present stream, divided by the layers that are left: R (d_model x facts);
   W' = W + R K^T (lambda C + K K^T)^-1. Later layers see the earlier ones' new matrices.

AlphaEdit (`alphaedit.py`) and EMMET (`emmet.py`) write the same R to the same K by another formula. Keys K_p of earlier
edits, where there are any, are spared like C: K_p K_p^T is added to lambda C.

MEMIT-Merge (Dong et al. 2025, arXiv 2502.07322): facts of one subject have the same key, and a matrix gives it one
value alone. Those of a batch share one: delta is found on the mean of their losses, and is added to the mean of their
streams; the key is the mean of theirs. In MEMIT's objective they stay as many (equal) columns of K and R.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Left, Material, Matrix, Request, applied, check_layer
from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import MemitSettings, SpreadSettings, Token
from knowcirc.editing.values import keys_of, optimise, prepare, state_of
from knowcirc.models.loading import LanguageModel

TOKEN: Token = "subject_last"
Weight = Float[Tensor, "d_model d_mlp"]
Group = Sequence[Request]
"""Requests that share a key and a value: one, but for MEMIT-Merge."""
Write = Callable[[int, Weight, Float[Tensor, "fact d_mlp"], Float[Tensor, "fact d_model"]], Weight]
"""The matrix of a layer that adds each `change` to the value of its key."""


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: MemitSettings, material: Material
) -> Edit:
    """The edit of all requests, as the registry of editors calls for it."""
    return edit(model, requests, settings, material.moment, material.prefixes(), material.past)


def edit(
    model: LanguageModel,
    requests: Sequence[Request],
    settings: MemitSettings,
    moment: Callable[[int], Moment],
    prefixes: list[tuple[int, ...]],
    past: Mapping[int, Left] = MappingProxyType({}),
) -> Edit:
    """One edit of several layers' MLP output matrices that makes all requests true; `past`: keys of earlier edits.

    Raises:
        ValueError: if there is no request, or the layer does not exist.
    """

    def write(layer: int, weight: Weight, keys: Tensor, change: Tensor) -> Weight:
        return spread(weight, keys, change, moment(layer), settings.moment_weight, past.get(layer))

    return edit_layers(model, requests, settings, write, prefixes)


def layers_below(layer: int, span: int) -> range:
    """`span` layers up to `layer`, or the lowest of the model where too few lie below it.

    >>> layers_below(5, 3), layers_below(0, 3)
    (range(3, 6), range(0, 3))
    """
    first = max(0, layer - span + 1)
    return range(first, first + span)


def edit_layers(
    model: LanguageModel,
    requests: Sequence[Request],
    settings: SpreadSettings,
    write: Write,
    prefixes: list[tuple[int, ...]],
) -> Edit:
    """The same by any formula, which `write` computes; the edit leaves the keys that it wrote to.

    Raises:
        ValueError: as `edit` does.
    """
    if not requests:
        raise ValueError("memit: no request; give one or more")
    layers = layers_below(settings.layer, settings.span)
    top = layers[-1]
    check_layer(model, top)
    groups = by_subject(requests) if settings.merged else [[request] for request in requests]
    requested, reports = zip(*(_find_state(model, group, settings, prefixes) for group in groups), strict=True)
    sizes = torch.tensor([len(group) for group in groups], device=model.device)
    weights: dict[Matrix, Tensor] = {}
    left: dict[int, Left] = {}
    for remaining, layer in zip(range(len(layers), 0, -1), layers, strict=True):
        with applied(model, Edit(weights, {})) as current:
            keys, bare = _keys(current, groups, layer, settings, prefixes)
            states = torch.stack([_state(current, group, top) for group in groups])
            missing = (torch.stack(requested) - states) / remaining
            block = current.transformer.blocks[layer]
            change = block.mlp_change(block.mlp.read_out(bare), missing)
            keys, change = keys.repeat_interleave(sizes, 0), change.repeat_interleave(sizes, 0)  # a row for each fact
            weights[Matrix(layer)] = write(layer, block.mlp.w_out, keys, change)
        left[layer] = keys  # they depend on the layers below alone, which are not written to again
    with applied(model, Edit(weights, {})) as current:
        states = torch.stack([_state(current, group, top) for group in groups])
    off = [float((state - z).norm() / z.norm()) for state, z in zip(states, requested, strict=True)]
    report = {name: sum(each[name] for each in reports) / len(reports) for name in reports[0]}
    return Edit(weights, {**report, "state_error": sum(off) / len(off)}, left)


def by_subject(requests: Sequence[Request]) -> list[Group]:
    """The requests of each subject, in the order of their first.

    Raises:
        ValueError: if a request does not say its subject.
    """
    groups: dict[str, list[Request]] = {}
    for request in requests:
        if not request.subject:
            raise ValueError(f"{request.prompt.text!r} names no subject; give the request as texts")
        groups.setdefault(request.subject, []).append(request)
    return list(groups.values())


def _keys(
    model: LanguageModel,
    groups: Sequence[Group],
    layer: int,
    settings: SpreadSettings,
    prefixes: list[tuple[int, ...]],
) -> tuple[Float[Tensor, "group d_mlp"], Float[Tensor, "group d_mlp"]]:
    """Each group's key, and that of its bare prompt.

    The key is the mean over its contexts, or of the bare prompt's and the mean of the others; of facts that share one,
    the mean of theirs.
    """
    found = [
        [keys_of(model, request, layer, TOKEN, prefixes, settings.contexts) for request in group] for group in groups
    ]
    keys = [torch.stack([_key(of_contexts, settings) for of_contexts in group]).mean(0) for group in found]
    bare = [torch.stack([of_contexts[0] for of_contexts in group]).mean(0) for group in found]
    return torch.stack(keys), torch.stack(bare)


def _key(keys: Float[Tensor, "context d_mlp"], settings: SpreadSettings) -> Float[Tensor, " d_mlp"]:
    if settings.averaged == "contexts" or len(keys) == 1:
        return keys.mean(0)
    return (keys[0] + keys[1:].mean(0)) / 2


def _state(model: LanguageModel, group: Group, layer: int) -> Float[Tensor, " d_model"]:
    """The residual stream after the layer at the subject's last token, the mean of the requests' own."""
    return torch.stack([state_of(model, request, layer, TOKEN) for request in group]).mean(0)


def _find_state(
    model: LanguageModel, group: Group, settings: SpreadSettings, prefixes: list[tuple[int, ...]]
) -> tuple[Float[Tensor, " d_model"], dict[str, float]]:
    """z of one request, or of those that share it, and the report of its search."""
    top = layers_below(settings.layer, settings.span)[-1]
    asked = [(each, prepare(model, each, top, TOKEN, prefixes, settings.contexts)[0]) for each in group]
    present, block = _state(model, group, top), model.transformer.blocks[top]
    if block.post2 is None:
        delta, report = optimise(model.transformer, asked, top, settings, present)
        return present + delta, report
    value = torch.stack([rows.value[0, 0] for _, rows in asked]).mean(0)  # behind a norm, lengths are its own
    delta, report = optimise(model.transformer, asked, top, settings, value)
    return present + block.mlp_out(value + delta) - block.mlp_out(value), report


def spread(
    weight: Weight,
    keys: Float[Tensor, "fact d_mlp"],
    change: Float[Tensor, "fact d_model"],
    moment: Moment,
    moment_weight: float,
    past: Left | None = None,
) -> Weight:
    """The matrix that best adds each `change` to the value of its key, against all other keys weighed by lambda C."""
    k = keys.double()
    weighed = moment_weight * moment.to(k.device).double() + k.T @ k
    if past is not None:
        weighed += past.double().T @ past.double()
    return (weight.double() + change.double().T @ torch.linalg.solve(weighed, k.T).T).to(weight.dtype)
