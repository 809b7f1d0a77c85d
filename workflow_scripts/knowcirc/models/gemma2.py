"""Gemma 2 models as a `Transformer`: norms before and behind attention and MLP, soft caps, windows in every other."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models import llama
from knowcirc.models.transformer import Shape, Transformer
from knowcirc.models.variants import expect, windows

PREFIX, EMBEDDING, read_context = llama.PREFIX, llama.EMBEDDING, llama.read_context
DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "layer_types": None,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "use_bidirectional_attention": None,
    "tie_word_embeddings": True,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a Gemma 2 configuration states.

    Raises:
        ValueError: for biases, which the norm behind attention would scale by the prompt, attention to what follows, or
            layers of other kinds.
    """
    expect(config, "Gemma 2", attention_bias=False)
    if config.use_bidirectional_attention:
        raise ValueError("Gemma 2 with use_bidirectional_attention=True is not supported; expected False")
    _windows(config)
    return llama.shape_of(config, "gemma2")


def _windows(config: Any) -> tuple[int | None, ...]:
    kinds = ("sliding_attention", "full_attention")
    return windows(config, "Gemma 2", [kinds[layer % 2] for layer in range(config.num_hidden_layers)])


def _number(given: float | int | None) -> float | None:
    return None if given is None else float(given)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a Gemma 2 model's weights, by their names in `Gemma2ForCausalLM`."""
    traits = llama.Traits(
        config.hidden_activation,
        norms=(
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ),
        offset=1.0,
        windows=_windows(config),
        divisor=float(config.query_pre_attn_scalar) ** 0.5,
        cap=_number(config.attn_logit_softcapping),
        embed_scale=float(config.hidden_size) ** 0.5,
        logit_cap=_number(config.final_logit_softcapping),
    )
    return llama.adapt_like(config, weights, read_shape(config), traits)
