"""MEMIT, mass-editing memory in a transformer (Meng et al. 2023, arXiv 2210.07229, section 4).

1. z_i: the residual stream after the last edited layer, at each fact's last subject token, that makes the model say
   the new object (`values.py`).
2. From the first edited layer to the last: the keys K (d_mlp x facts, averaged over contexts) and what is still
   missing, z_i less the present stream, divided by the layers that are left: R (d_model x facts);
   W' = W + R K^T (lambda C + K K^T)^-1. Later layers see the earlier ones' new matrices.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied, check_layer
from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import MemitSettings, Token
from knowcirc.editing.values import keys_of, optimise, prepare, state_of
from knowcirc.models.loading import LanguageModel

TOKEN: Token = "subject_last"


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: MemitSettings, material: Material
) -> Edit:
    """The edit of all requests, as the registry of editors calls for it."""
    return edit(model, requests, settings, material.moment, material.prefixes())


def layers_below(layer: int, span: int) -> range:
    """`span` layers up to `layer`, or the lowest of the model where too few lie below it.

    >>> layers_below(5, 3), layers_below(0, 3)
    (range(3, 6), range(0, 3))
    """
    first = max(0, layer - span + 1)
    return range(first, first + span)


def edit(
    model: LanguageModel,
    requests: Sequence[Request],
    settings: MemitSettings,
    moment: Callable[[int], Moment],
    prefixes: list[tuple[int, ...]],
) -> Edit:
    """One edit of several layers' MLP output matrices that makes all requests true.

    Raises:
        ValueError: if there is no request, or the layer does not exist.
    """
    if not requests:
        raise ValueError("memit: no request; give one or more")
    layers = layers_below(settings.layer, settings.span)
    top = layers[-1]
    check_layer(model, top)
    requested, reports = zip(*(_find_state(model, request, settings, prefixes) for request in requests), strict=True)
    weights: dict[Matrix, Tensor] = {}
    for left, layer in zip(range(len(layers), 0, -1), layers, strict=True):
        with applied(model, Edit(weights, {})) as current:
            found = [keys_of(current, request, layer, TOKEN, prefixes, settings.contexts) for request in requests]
            keys = torch.stack([_key(of_contexts, settings) for of_contexts in found])
            states = torch.stack([state_of(current, request, top, TOKEN) for request in requests])
            missing = (torch.stack(requested) - states) / left
            block = current.transformer.blocks[layer]
            values = block.mlp.read_out(torch.stack([of_contexts[0] for of_contexts in found]))
            change = block.mlp_change(values, missing)
            weights[Matrix(layer)] = spread(block.mlp.w_out, keys, change, moment(layer), settings.moment_weight)
    with applied(model, Edit(weights, {})) as current:
        states = torch.stack([state_of(current, request, top, TOKEN) for request in requests])
    off = [float((state - z).norm() / z.norm()) for state, z in zip(states, requested, strict=True)]
    report = {name: sum(each[name] for each in reports) / len(reports) for name in reports[0]}
    return Edit(weights, {**report, "state_error": sum(off) / len(off)})


def _key(keys: Float[Tensor, "context d_mlp"], settings: MemitSettings) -> Float[Tensor, " d_mlp"]:
    """A fact's key: the mean over its contexts, or of the bare prompt's and the mean of the others."""
    if settings.averaged == "contexts" or len(keys) == 1:
        return keys.mean(0)
    return (keys[0] + keys[1:].mean(0)) / 2


def _find_state(
    model: LanguageModel, request: Request, settings: MemitSettings, prefixes: list[tuple[int, ...]]
) -> tuple[Float[Tensor, " d_model"], dict[str, float]]:
    """z of one request, and the report of its search."""
    layers = layers_below(settings.layer, settings.span)
    top = layers[-1]
    rows, _ = prepare(model, request, top, TOKEN, prefixes, settings.contexts)
    present = state_of(model, request, top, TOKEN)
    block, value = model.transformer.blocks[top], rows.value[0, 0]
    if block.post2 is None:
        delta, report = optimise(model.transformer, rows, request, top, settings, present)
        return present + delta, report
    delta, report = optimise(
        model.transformer, rows, request, top, settings, value
    )  # behind a norm, lengths are its own
    return present + block.mlp_out(value + delta) - block.mlp_out(value), report


def spread(
    weight: Float[Tensor, "d_model d_mlp"],
    keys: Float[Tensor, "fact d_mlp"],
    change: Float[Tensor, "fact d_model"],
    moment: Moment,
    moment_weight: float,
) -> Float[Tensor, "d_model d_mlp"]:
    """The matrix that best adds each `change` to the value of its key, against all other keys weighed by lambda C."""
    k = keys.double()
    weighed = moment_weight * moment.to(k.device).double() + k.T @ k
    return (weight.double() + change.double().T @ torch.linalg.solve(weighed, k.T).T).to(weight.dtype)
