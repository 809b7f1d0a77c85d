"""AlphaEdit: edits in the null space of the keys that are to be spared (Fang et al. 2024, arXiv 2410.02355).

1. P projects onto the eigenvectors of the second moments C whose eigenvalues are below `nullspace_threshold`:
   directions of keys that the corpus hardly uses. A change D P of the matrix leaves its values nearly as they were.
2. Of all such changes, the one that best adds R to the values of K, with |D P|^2 and what it does to keys of earlier
   edits K_p as penalties:

    W' = W + R K^T P (K_p K_p^T P + K K^T P + a I)^-1

K (d_mlp x facts) and R (d_model x facts) are MEMIT's (`memit.py`), over as many layers. The paper has a = 1, its code
the model's own (`ridge`).

With Q = P K for K, and S = P [K K_p], the same is W' = W + [R 0] (S^T S + a I)^-1 S^T, as P is symmetric and P P = P: a
system as large as there are facts, which is solved in double precision.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.editing.edits import Edit, Left, Material, Request
from knowcirc.editing.memit import Weight, edit_layers
from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import AlphaEditSettings
from knowcirc.models.loading import LanguageModel

Basis = Float[Tensor, "d_mlp direction"]


def edit_requests(
    model: LanguageModel, requests: Sequence[Request], settings: AlphaEditSettings, material: Material
) -> Edit:
    """The edit of all requests, as the registry of editors calls for it; the report has the null spaces' mean share.

    Raises:
        ValueError: if a layer has no null space.
    """
    shares: list[float] = []

    def write(layer: int, weight: Weight, keys: Tensor, change: Tensor) -> Weight:
        what = ("null space", layer, settings.nullspace_threshold)
        basis: Basis = material.once(what, lambda: null_space(material.moment(layer), settings.nullspace_threshold))
        if basis.shape[1] == 0:
            raise ValueError(
                f"alphaedit: no second moment of layer {layer} is below {settings.nullspace_threshold:g}; "
                "raise nullspace_threshold"
            )
        shares.append(basis.shape[1] / basis.shape[0])
        return write_within(weight, keys, change, basis, settings.ridge, material.past.get(layer))

    made = edit_layers(model, requests, settings, write, material.prefixes())
    made.report["null_space"] = sum(shares) / len(shares)
    return made


def null_space(moment: Moment, threshold: float) -> Basis:
    """Orthonormal directions of keys whose second moment is below the threshold; P is this times its transpose."""
    values, vectors = torch.linalg.eigh(moment.double())
    return vectors[:, values < threshold]


def write_within(
    weight: Weight,
    keys: Float[Tensor, "fact d_mlp"],
    change: Float[Tensor, "fact d_model"],
    basis: Basis,
    ridge: float,
    past: Left | None = None,
) -> Weight:
    """The matrix that adds each `change` to the value of its key by what of the key lies in the null space."""
    basis = basis.to(keys.device)
    spared = keys.double() if past is None else torch.cat((keys, past)).double()
    s = spared @ basis  # in the null space's own coordinates
    added = torch.linalg.solve(s @ s.T + ridge * torch.eye(len(s), device=s.device, dtype=s.dtype), s)[: len(keys)]
    return (weight.double() + change.double().T @ added @ basis.T).to(weight.dtype)
