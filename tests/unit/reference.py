"""Plain reference computations on the Hugging Face network: its modules by name, and hooks that read or replace."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from knowcirc.models.loading import LanguageModel


def network(model: LanguageModel) -> PreTrainedModel:
    """The Hugging Face network of a model, with its weights as they are now; the same object at every call."""
    found = _saved(model.folder, model.transformer.embedding.dtype).to(model.device)
    with torch.no_grad():
        values = found.state_dict()
        for name, weights in model.weights.items():
            values[name].copy_(weights)
    return found


@cache
def _saved(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    settings = {"attn_implementation": "eager", "local_files_only": True}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **settings).eval().requires_grad_(False)


def layers(network: PreTrainedModel) -> list[nn.Module]:
    """The decoder layers."""
    return list(network.transformer.h if hasattr(network, "transformer") else network.base_model.layers)


def embedding(network: PreTrainedModel) -> nn.Module:
    """The token embedding."""
    return network.get_input_embeddings()


def final_norm(network: PreTrainedModel) -> nn.Module:
    """The norm before the vocabulary."""
    base = network.base_model
    return next(getattr(base, name) for name in ("ln_f", "norm", "final_layer_norm") if hasattr(base, name))


def attention(layer: nn.Module) -> nn.Module:
    """A layer's attention module."""
    return next(getattr(layer, name) for name in ("attn", "self_attn", "attention") if hasattr(layer, name))


def heads_out(layer: nn.Module) -> nn.Module:
    """A layer's attention output matrix: its input holds the heads' mixed values side by side."""
    module = attention(layer)
    return next(getattr(module, name) for name in ("c_proj", "o_proj", "dense") if hasattr(module, name))


def mlp_out(layer: nn.Module) -> nn.Module:
    """A layer's MLP output matrix: its input is ROME's key."""
    return next(
        getattr(layer.mlp, name) for name in ("c_proj", "down_proj", "dense_4h_to_h") if hasattr(layer.mlp, name)
    )


def norms(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A layer's norms before attention and before the MLP; where there is none, what reads the stream itself."""
    if hasattr(layer, "ln_1"):
        return layer.ln_1, layer.ln_2
    if not hasattr(layer, "input_layernorm"):  # OLMo 2's
        return layer.self_attn.q_proj, layer.mlp
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2
        return layer.input_layernorm, layer.pre_feedforward_layernorm
    return layer.input_layernorm, layer.post_attention_layernorm


def is_olmo(attention: nn.Module) -> bool:
    """Whether queries and keys of all heads are normed together."""
    return hasattr(attention, "q_norm") and attention.q_norm.weight.shape[0] != attention.head_dim


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """What attention reads of the stream `x`, by the first of `norms`."""
    return x if isinstance(norm, nn.Linear) else norm(x)


def added(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules whose outputs attention and the MLP add to the stream."""
    if hasattr(layer, "post_feedforward_layernorm"):
        return layer.post_attention_layernorm, layer.post_feedforward_layernorm
    return heads_out(layer), layer.mlp


def rows_out(matrix: nn.Module) -> Tensor:
    """The weight as (d_out, d_in), whichever way the family keeps it."""
    return matrix.weight if isinstance(matrix, nn.Linear) else matrix.weight.T


@contextlib.contextmanager
def inputs_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """`module` reads `change(input)`."""
    handle = module.register_forward_pre_hook(lambda _, args: (change(args[0].clone()), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def outputs_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """`module` gives `change(output)`; of a tuple, its first part is changed."""

    def hook(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if isinstance(output, tuple):
            return change(output[0].clone()), *output[1:]
        return change(output.clone())

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def heads_silenced(layer: nn.Module, heads: Sequence[int], d_head: int = 8) -> Iterator[None]:
    """The stream lacks what some heads add to it; where their sum is normed, its scale stays."""
    matrix, norm = heads_out(layer), added(layer)[0]
    parts: list[Tensor] = []

    def keep(_: nn.Module, args: tuple[Tensor, ...], __: Tensor) -> None:
        weight = rows_out(matrix).unflatten(1, (-1, d_head))[:, list(heads)].flatten(1)
        parts.append(args[0].unflatten(-1, (-1, d_head))[..., list(heads), :].flatten(-2) @ weight.T)

    def take(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        part = parts.pop()
        return output - (part if module is matrix else part * output / args[0])

    with contextlib.ExitStack() as stack:
        stack.callback(matrix.register_forward_hook(keep).remove)
        stack.callback(norm.register_forward_hook(take).remove)
        yield


@torch.no_grad()
def logits(network: PreTrainedModel, ids: Tensor) -> Tensor:
    """Logits at every position, by the network's own forward pass."""
    return network(ids, use_cache=False).logits


def watch(network: PreTrainedModel, ids: Tensor, **modules: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """(input, output) of the named modules in one forward pass."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    with contextlib.ExitStack() as stack:
        for name, module in modules.items():

            def hook(_: nn.Module, args: tuple, kwargs: dict, output: object, name: str = name) -> None:
                first = args[0] if args else kwargs["hidden_states"]
                seen[name] = (first.detach(), (output[0] if isinstance(output, tuple) else output).detach())

            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        logits(network, ids)
    return seen
