"""UltraEdit: an edit from one hidden state and one gradient for each token (Gu et al. 2025, arXiv 2505.14679).

Nothing is trained, and no subject is needed. For each token of the target, at the position that predicts it, and each
edited matrix:

1. h is the matrix's input there (ROME's key), g the gradient of the target's negative log-likelihood at its output.
2. z = [h, g] is normalised entry by entry with mean and standard deviation over all edits so far, and over all edited
   matrices together, which are of one shape (as UltraEdit's code pools those of equal shape): h^, g^.
3. The output shall change by v = -eta |h^|^2 g^.
4. W' = W + V^T H (H^T H + a I)^-1, ridge regression of V (tokens x d_model) on H (tokens x d_mlp).

The paper edits 100 requests at a time, over which z has a spread. One request alone has hardly any: so the statistics
begin with tokens of the sampled prefixes, each with the gradient of its text's own likelihood. Likelihoods are summed
over a text's tokens, so that a token weighs the same in a short text and in a long one.

The edited matrices are the MLP output matrices of `span` layers near the top, as UltraEdit's code chooses for GPT-J,
Mistral-7B (layers 29 and 30) and Phi-4 (30 to 38); for Llama-3, Qwen2.5 and Gemma-3 it takes gate and up matrices. With
V and H as wide as here, the same is V^T (H H^T + a I)^-1 H, a system as large as there are tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Left, Material, Matrix, Request, check_layer
from knowcirc.editing.sampling import start_token
from knowcirc.editing.settings import UltraEditSettings
from knowcirc.models.layers import Mlp
from knowcirc.models.loading import LanguageModel

Features = dict[int, Left]
"""h and g side by side, by layer: one row for each token."""
Scale = tuple[Float[Tensor, " width"], Float[Tensor, " width"]]
"""Mean and standard deviation of each of their entries."""


@dataclass(frozen=True, slots=True)
class _Watched(Mlp):
    """An MLP that keeps the inputs and outputs of its output matrix."""

    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def read_out(self, hidden: Float[Tensor, "*rows d_mlp"]) -> Float[Tensor, "*rows d_model"]:
        """The block's output, kept with what it was computed from."""
        out = Mlp.read_out(self, hidden)
        self.seen.append((hidden, out))
        return out


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: UltraEditSettings, material: Material
) -> Edit:
    """The edit of all requests, as the registry of editors calls for it; it leaves the features that are new.

    Raises:
        ValueError: if the layer does not exist, or there are fewer than two rows to take statistics of.
    """
    check_layer(model, settings.layer)
    layers = range(max(0, settings.layer - settings.span + 1), settings.layer + 1)
    texts = [(each.prompt.ids + each.target, len(each.target)) for each in requests]
    asked, nll = features(model, texts, layers)
    begun = all(layer in material.past for layer in layers)  # then what was sampled stands there, too
    what = ("sampled features", layers)
    sampled: Features = {} if begun else material.once(what, lambda: _of_prefixes(model, material, layers))
    left = {layer: torch.cat((sampled[layer], rows)) if layer in sampled else rows for layer, rows in asked.items()}
    scale = normaliser([*([material.past[layer] for layer in layers] if begun else []), *left.values()])
    weights = {
        Matrix(layer): regress(Matrix(layer).view(model.own), rows, scale, settings.step_size, settings.ridge)
        for layer, rows in asked.items()
    }
    return Edit(weights, {"tokens": float(len(asked[layers[0]])), "nll": nll}, left)


def _of_prefixes(model: LanguageModel, material: Material, layers: Sequence[int]) -> Features:
    texts = [((start_token(model), *prefix), len(prefix)) for prefix in material.prefixes()]
    return features(model, texts, layers)[0] if texts else {}


def features(
    model: LanguageModel, texts: Sequence[tuple[tuple[int, ...], int]], layers: Sequence[int]
) -> tuple[Features, float]:
    """h and g at each layer's output matrix for the last so many tokens of each text, where they are predicted.

    Also the mean negative log-likelihood of these tokens (nats).
    """
    network, losses = model.own, list[float]()
    rows: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    mlps = {layer: _Watched(**_fields(network.blocks[layer].mlp)) for layer in layers}
    blocks = tuple(
        replace(block, mlp=mlps[layer]) if layer in mlps else block for layer, block in enumerate(network.blocks)
    )
    watched = replace(network, blocks=blocks)
    for ids, count in texts:
        tokens = model.batch([ids])[0]
        with torch.enable_grad():
            x = watched.embed(tokens[None, :-1]).detach().requires_grad_()
            for layer in range(network.shape.n_layers):
                x = watched.advance(layer, x)
            loss = torch.nn.functional.cross_entropy(watched.unembed(x[0, -count:]), tokens[-count:], reduction="sum")
        seen = [mlps[layer].seen.pop() for layer in layers]
        gradients = torch.autograd.grad(loss, [out for _, out in seen])
        for layer, (hidden, _), gradient in zip(layers, seen, gradients, strict=True):
            rows[layer].append(torch.cat((hidden[0, -count:].detach(), gradient[0, -count:]), 1))
        losses.append(float(loss.detach()) / count)
    return {layer: torch.cat(found) for layer, found in rows.items()}, sum(losses) / len(losses)


def _fields(mlp: Mlp) -> dict[str, Any]:
    return {name: getattr(mlp, name) for name in Mlp.__dataclass_fields__}


def normaliser(known: Sequence[Tensor]) -> Scale:
    """Mean and standard deviation of each entry of z over all rows of all layers and edits, in double precision.

    `known`: features of token x width, of as many tokens as may be.

    Raises:
        ValueError: if there are fewer than two rows.
    """
    if (count := sum(map(len, known))) < 2:
        raise ValueError("ultraedit: one token has no spread to normalise by; sample prefixes, or give more requests")
    mean = torch.stack([rows.double().sum(0) for rows in known]).sum(0) / count
    squares = torch.stack([(rows.double() - mean).square().sum(0) for rows in known]).sum(0)
    return mean, (squares / (count - 1)).sqrt()


def regress(
    weight: Float[Tensor, "d_model d_mlp"],
    asked: Float[Tensor, "token width"],
    scale: Scale,
    step_size: float,
    ridge: float,
) -> Float[Tensor, "d_model d_mlp"]:
    """The matrix that best changes its output by v for each token's input, with features normalised by `normaliser`."""
    (mean, spread), split = scale, weight.shape[1]
    normed = (asked.double() - mean) / (spread + torch.finfo(torch.float32).eps)
    h_hat, g_hat = normed.split([split, len(weight)], 1)
    v = -step_size * h_hat.square().sum(1, keepdim=True) * g_hat
    h = asked[:, :split].double()
    inner = h @ h.T + ridge * torch.eye(len(h), device=h.device, dtype=h.dtype)
    return (weight.double() + v.T @ torch.linalg.solve(inner, h)).to(weight.dtype)
