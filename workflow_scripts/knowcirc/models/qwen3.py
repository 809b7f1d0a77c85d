"""Qwen3 models as a `Transformer`: Llama's layers, each head's queries and keys normed, windows in some."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models import llama, qwen2
from knowcirc.models.transformer import Shape, Transformer

PREFIX, EMBEDDING, read_context = llama.PREFIX, llama.EMBEDDING, llama.read_context
DEFAULTS: dict[str, Any] = {
    **qwen2.DEFAULTS,
    "head_dim": 128,
    "attention_bias": False,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a Qwen3 configuration states.

    Raises:
        ValueError: for layers of other kinds.
    """
    qwen2.read_windows(config, "Qwen3")
    return llama.shape_of(config, "qwen3")


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a Qwen3 model's weights, by their names in `Qwen3ForCausalLM`."""
    traits = llama.Traits(
        config.hidden_act,
        llama.ATTENTION if config.attention_bias else (),
        normed_heads=True,
        windows=qwen2.read_windows(config, "Qwen3"),
    )
    return llama.adapt_like(config, weights, read_shape(config), traits)
