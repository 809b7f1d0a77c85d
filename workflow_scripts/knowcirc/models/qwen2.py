"""Qwen2 and Qwen2.5 models as a `Transformer`: Llama's layers, biases of queries, keys and values, windows in some."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models import llama
from knowcirc.models.transformer import Shape, Transformer
from knowcirc.models.variants import windows

PREFIX, EMBEDDING, read_context = llama.PREFIX, llama.EMBEDDING, llama.read_context
DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a Qwen2 configuration states.

    Raises:
        ValueError: for layers of other kinds.
    """
    read_windows(config, "Qwen2")
    return llama.shape_of(config, "qwen2")


def read_windows(config: Any, family: str) -> tuple[int | None, ...]:
    """The layers' windows: where they are used at all, those of the layers from `max_window_layers` on."""
    slides = config.use_sliding_window and config.sliding_window is not None
    usual = [
        "sliding_attention" if slides and layer >= config.max_window_layers else "full_attention"
        for layer in range(config.num_hidden_layers)
    ]
    return windows(config, family, usual)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a Qwen2 model's weights, by their names in `Qwen2ForCausalLM`."""
    traits = llama.Traits(config.hidden_act, llama.QKV, windows=read_windows(config, "Qwen2"))
    return llama.adapt_like(config, weights, read_shape(config), traits)
