"""The rank of a token among a vocabulary's logits: the one definition behind hit@k, "among the first" and "leads".

rank = number of other tokens whose logit is at least the token's, so it counts from 0 and ties count against the token.
A circuit that says nothing has the same logit for every token: were ties counted for the answer, it would be right on
every prompt. Logits are compared, not probabilities: these tie by underflow and rounding.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_finite(logits: Float[Tensor, "..."], text: str | None) -> None:
    """Make sure that logits can be compared; `text` is the prompt they were computed on, where there is one.

    Raises:
        ValueError: naming the prompt and what was found, if a logit is NaN or infinite.
    """
    finite = logits.isfinite()
    if bool(finite.all()):
        return
    bad = logits[~finite]
    found = f"{len(bad)} of {logits.numel()} logits are not finite (the first is {float(bad[0])})"
    where = "" if text is None else f"prompt {text!r}: "
    kind = str(logits.dtype).removeprefix("torch.")
    raise ValueError(
        f"{where}{found}, computed in {kind}, so no token can be ranked; compute in float32 or float64, or, "
        "where these give the same, mend the model's weights"
    )


def token_ranks(
    logits: Float[Tensor, "*rows vocab"], tokens: Int[Tensor, "*rows"] | int, text: str
) -> Int[Tensor, "*rows"]:
    """The rank of each row's token (one per row, or one for all), from 0; `text` is the prompt, for complaints.

    >>> token_ranks(torch.tensor([3.0, 1.0, 3.0]), 0, "a prompt").item()  # token 2 ties
    1

    Raises:
        ValueError: if a logit is not finite.
    """
    check_finite(logits, text)
    chosen = torch.as_tensor(tokens, device=logits.device).expand(logits.shape[:-1])
    own = logits.gather(-1, chosen[..., None])
    return (logits >= own).sum(-1) - 1
