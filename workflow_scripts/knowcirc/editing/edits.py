"""Edits: new values of weight matrices, applied in place and undone to the last bit.

An editor is a function `(model, request, ...) -> Edit` of its own module; `editors.py` names them. An edit keeps
the difference as whole matrices, so that applying it writes each matrix once and undoing restores the copy.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from knowcirc.editing.moments import Moment
from knowcirc.editing.settings import Part
from knowcirc.facts.prompts import Prompt, answer_tokens, fill
from knowcirc.models.loading import LanguageModel
from knowcirc.models.packing import repacked
from knowcirc.models.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Material:
    """What an editor may draw on besides the model: second moments of a layer, and sampled prefixes."""

    moment: Callable[[int], Moment]
    prefixes: Callable[[], list[tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Request:
    """An edit to make: the filled-in prompt, its subject, and the new object as tokens.

    `essence` is the prompt "SUBJECT is a", whose continuation ROME holds still; None where the prompt is given as ids.
    """

    prompt: Prompt
    essence: Prompt | None
    target: tuple[int, ...]
    subject: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Matrix:
    """Which weights: a layer's MLP output matrix, or the query, key or value matrices of all its heads together."""

    layer: int
    part: Part = "mlp_out"

    def view(self, network: Transformer) -> Tensor:
        """The weights in place: d_model x d_mlp, or head x d_head x d_model."""
        block = network.blocks[self.layer]
        views = {"query": block.attention.w_q, "key": block.attention.w_k, "value": block.attention.w_v}
        return block.mlp.w_out if self.part == "mlp_out" else views[self.part]

    def name(self, model: LanguageModel) -> str:
        """The Hugging Face parameter that holds them.

        Raises:
            ValueError: if they are copies (of a folded model), which no parameter holds.
        """
        memory = self.view(model.transformer).data_ptr()
        for name, weights in model.weights.items():
            if 0 <= memory - weights.data_ptr() < weights.nbytes:
                return name
        raise ValueError(f"{self.part} of layer {self.layer}: no parameter of {model.folder} holds these weights")


@dataclass(frozen=True, slots=True)
class Edit:
    """New values of weight matrices, and what the editor reports of its work."""

    weights: dict[Matrix, Tensor]
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
    return Request(
        fill(tokenizer, template, subject, target), fill(tokenizer, "{} is a", subject, target), new, subject
    )


@contextlib.contextmanager
def applied(model: LanguageModel, edit: Edit | None) -> Iterator[LanguageModel]:
    """The edited model: the same network with the edit's matrices in place (none: as it is).

    Within the block use what it yields: a packed transformer sees the edit only there. On leaving, the old matrices
    are back, bit by bit.

    Raises:
        ValueError: if an edited layer does not exist.
    """
    network = model.transformer
    weights = {} if edit is None else edit.weights
    for matrix in weights:
        check_layer(model, matrix.layer)
    old = {matrix: matrix.view(network).clone() for matrix in weights}
    try:
        with torch.no_grad():
            for matrix, weight in weights.items():
                matrix.view(network).copy_(weight)
        yield replace(model, transformer=repacked(network, {matrix.layer for matrix in weights}))
    finally:
        with torch.no_grad():
            for matrix, weight in old.items():
                matrix.view(network).copy_(weight)


def check_layer(model: LanguageModel, layer: int) -> None:
    """Refuse a layer that the model does not have.

    Raises:
        ValueError: naming the layers that exist.
    """
    n_layers = model.transformer.shape.n_layers
    if not 0 <= layer < n_layers:
        raise ValueError(f"layer {layer} does not exist; this model has layers 0 to {n_layers - 1}")
