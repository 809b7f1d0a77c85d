"""EMMET, an equality-constrained mass model editing algorithm for transformers (Gupta et al. 2024, arXiv 2403.14236).

What ROME does for one fact, for many at once: W' moves the value of every key of the batch by exactly what is asked,
and of all matrices that do so disturbs the values of other keys, with second moments C, least.

    W' = W + R (K^T C^-1 K + a I)^-1 K^T C^-1

K (d_mlp x facts) are the batch's keys and R (d_model x facts) what their values lack: MEMIT's (`memit.py`), over as
many layers. `ridge`, a, keeps K^T C^-1 K invertible where keys are alike; without it W' K = W K + R. R is what the bare
prompt's value lacks, K a mean over contexts: only where no context stands before the prompt are these one place, whose
value then is exactly the new one. Of one fact, one layer and no ridge, this is R-ROME's formula with MEMIT's R.

Keys of earlier edits K_p are spared, too: C is replaced by C + K_p K_p^T / w, of w tokens that C stands for
(`moment_weight`). The paper edits once, in one batch.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Left, Material, Request
from knowcirc.editing.memit import Weight, edit_layers
from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import EmmetSettings
from knowcirc.models.loading import LanguageModel


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: EmmetSettings, material: Material
) -> Edit:
    """The edit of all requests, as the registry of editors calls for it."""

    def write(layer: int, weight: Weight, keys: Tensor, change: Tensor) -> Weight:
        moment, past = material.moment(layer), material.past.get(layer)
        return meet(weight, keys, change, spared(moment, past, settings.moment_weight), settings.ridge)

    return edit_layers(model, requests, settings, write, material.prefixes())


def spared(moment: Moment, past: Left | None, moment_weight: float) -> Moment:
    """The second moments of keys to spare: the corpus', and those of earlier edits among so many tokens of it."""
    if past is None:
        return moment
    earlier = past.to(moment.device).double()
    return moment.double() + earlier.T @ earlier / moment_weight


def meet(
    weight: Weight,
    keys: Float[Tensor, "fact d_mlp"],
    change: Float[Tensor, "fact d_model"],
    moment: Moment,
    ridge: float,
) -> Weight:
    """The matrix that adds each `change` to the value of its key, exactly where `ridge` is zero."""
    k = keys.double()
    solved = torch.linalg.solve(moment.to(k.device).double(), k.T)
    inner = k @ solved + ridge * torch.eye(len(k), device=k.device, dtype=k.dtype)
    return (weight.double() + change.double().T @ torch.linalg.solve(inner, solved.T)).to(weight.dtype)
