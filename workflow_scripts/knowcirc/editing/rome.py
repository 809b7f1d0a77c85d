"""ROME, rank-one model editing (Meng et al. 2022, section 3.1), and R-ROME (Gupta et al. 2024, arXiv 2403.07175).

1. k*: the MLP key at the subject's last token, averaged over sampled contexts and the bare prompt.
2. v*: the MLP output that makes the model say the new object there (`values.py`).
3. W' = W + (v* - W k) (C^-1 k*)^T / (k . C^-1 k*): rank one, and W' k = v*.

ROME's code takes the key of the bare prompt for k; R-ROME takes k* in both places.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Material, Matrix, Request
from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import RomeSettings
from knowcirc.editing.values import optimise, prepare
from knowcirc.models.loading import LanguageModel


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: RomeSettings, material: Material
) -> Edit:
    """The edit of one request, as the registry of editors calls for it."""
    moment = material.moment(settings.layer) if settings.second_moments else None
    return edit(model, requests[0], settings, moment, material.prefixes())


def edit(
    model: LanguageModel,
    request: Request,
    settings: RomeSettings,
    moment: Moment | None,
    prefixes: list[tuple[int, ...]],
) -> Edit:
    """The rank-one edit of one layer's MLP output matrix that makes the request true; no moment: C is the identity.

    Raises:
        ValueError: if the layer does not exist, or the request lacks the token.
    """
    rows, keys = prepare(model, request, settings.layer, settings.token, prefixes, settings.contexts)
    mlp, k_star = model.transformer.blocks[settings.layer].mlp, keys.mean(0)
    present = mlp.read_out(keys[0])
    delta, report = optimise(model.transformer, [(request, rows)], settings.layer, settings, present)
    v_star, key = present + delta, k_star if settings.averaged_key else keys[0]
    weight = rank_one(mlp.w_out, key, k_star, v_star - mlp.read_out(key), moment)
    reached = torch.nn.functional.linear(key, weight, mlp.b_out)
    error = float((reached - v_star).norm() / v_star.norm())
    return Edit({Matrix(settings.layer): weight}, {**report, "value_error": error})


def rank_one(
    weight: Float[Tensor, "d_model d_mlp"],
    key: Float[Tensor, " d_mlp"],
    k_star: Float[Tensor, " d_mlp"],
    change: Float[Tensor, " d_model"],
    moment: Moment | None,
) -> Float[Tensor, "d_model d_mlp"]:
    """The matrix that adds `change` to the value of `key`, along C^-1 k*; solved in double precision."""
    solved = k_star.double()
    if moment is not None:
        solved = torch.linalg.solve(moment.to(key.device).double(), solved)
    update = torch.outer(change.double() / (key.double() @ solved), solved)
    return (weight.double() + update).to(weight.dtype)
