"""Edits: new values of single weight matrices, applied in place and undone to the last bit.

An editor is a function `(model, request, ...) -> Edit` of its own module; `registry.py` names them. An edit keeps
the difference as whole matrices, so that applying it writes each matrix once and undoing restores the copy.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from knowcirc.facts.prompts import Prompt, answer_tokens, fill
from knowcirc.models.loading import LanguageModel
from knowcirc.models.packing import repacked


@dataclass(frozen=True, slots=True)
class Request:
    """An edit to make: the filled-in prompt, its subject, and the new object as tokens.

    `essence` is the prompt "SUBJECT is a", whose continuation ROME holds still.
    """

    prompt: Prompt
    essence: Prompt | None
    target: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """New values of MLP output matrices by layer, and what the editor reports of its work."""

    weights: dict[int, Float[Tensor, "d_model d_mlp"]]
    report: dict[str, float]


def request(model: LanguageModel, template: str, subject: str, target: str) -> Request:
    """The request to complete `template` for `subject` with `target`.

    Raises:
        ValueError: if the template lacks `{}`, or subject or target will not do.
    """
    if template.count("{}") != 1:
        raise ValueError(f"prompt {template!r} must hold {{}} once, where the subject stands")
    if not subject or subject != subject.strip():
        raise ValueError(f"subject {subject!r}: give it without spaces around it")
    tokenizer = model.text
    new = answer_tokens(tokenizer, target)
    return Request(fill(tokenizer, template, subject, target), fill(tokenizer, "{} is a", subject, target), new)


@contextlib.contextmanager
def applied(model: LanguageModel, edit: Edit | None) -> Iterator[LanguageModel]:
    """The edited model: the same network with the edit's matrices in place (none: as it is).

    Within the block use what it yields: a packed transformer sees the edit only there. On leaving, the old matrices
    are back, bit by bit.

    Raises:
        ValueError: if an edited layer does not exist.
    """
    blocks = model.transformer.blocks
    weights = {} if edit is None else edit.weights
    for layer in weights:
        check_layer(model, layer)
    old = {layer: blocks[layer].mlp.w_out.clone() for layer in weights}
    try:
        with torch.no_grad():
            for layer, weight in weights.items():
                blocks[layer].mlp.w_out.copy_(weight)
        yield replace(model, transformer=repacked(model.transformer, weights))
    finally:
        with torch.no_grad():
            for layer, weight in old.items():
                blocks[layer].mlp.w_out.copy_(weight)


def check_layer(model: LanguageModel, layer: int) -> None:
    """Refuse a layer that the model does not have.

    Raises:
        ValueError: naming the layers that exist.
    """
    n_layers = model.transformer.shape.n_layers
    if not 0 <= layer < n_layers:
        raise ValueError(f"layer {layer} does not exist; this model has layers 0 to {n_layers - 1}")
