"""Mistral models as a `Transformer`: Llama's layers without biases, all of them with one window or none."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models import llama
from knowcirc.models.transformer import Shape, Transformer
from knowcirc.models.variants import expect, windows

PREFIX, EMBEDDING, read_context = llama.PREFIX, llama.EMBEDDING, llama.read_context
DEFAULTS: dict[str, Any] = {
    "head_dim": None,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "sliding_window": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a Mistral configuration states.

    Raises:
        ValueError: for kinds of layers, which Mistral's forward pass does not have.
    """
    expect(config, "Mistral", layer_types=None)
    _windows(config)
    return llama.shape_of(config, "mistral")


def _windows(config: Any) -> tuple[int | None, ...]:
    kind = "full_attention" if config.sliding_window is None else "sliding_attention"
    return windows(config, "Mistral", [kind] * config.num_hidden_layers)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a Mistral model's weights, by their names in `MistralForCausalLM`."""
    return llama.adapt_like(
        config, weights, read_shape(config), llama.Traits(config.hidden_act, windows=_windows(config))
    )
