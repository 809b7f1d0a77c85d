"""OLMo 2 models as a `Transformer`: norms behind attention and MLP instead of before, queries and keys normed."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models import llama
from knowcirc.models.transformer import Shape, Transformer
from knowcirc.models.variants import expect

PREFIX, EMBEDDING, read_context = llama.PREFIX, llama.EMBEDDING, llama.read_context
DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 50279,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that an OLMo 2 configuration states.

    Raises:
        ValueError: for biases, which the norm behind attention would scale by the prompt.
    """
    expect(config, "OLMo 2", attention_bias=False)
    return llama.shape_of(config, "olmo2")


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of an OLMo 2 model's weights, by their names in `Olmo2ForCausalLM`."""
    traits = llama.Traits(
        config.hidden_act,
        norms=(None, "post_attention_layernorm", None, "post_feedforward_layernorm"),
        normed_heads=True,
    )
    return llama.adapt_like(config, weights, read_shape(config), traits)
