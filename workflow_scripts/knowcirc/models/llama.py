"""Llama models (SmolLM2, TinyLlama, Llama) as a `Transformer`: RMSNorm, rotary positions, grouped K/V, gated MLP."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models.activations import activation
from knowcirc.models.layers import Attention, Block, Mlp, Norm, Rotary
from knowcirc.models.rotary import rotary_angles
from knowcirc.models.transformer import Shape, Transformer

PREFIX = "model."
EMBEDDING = f"{PREFIX}embed_tokens.weight"
DEFAULTS: dict[str, Any] = {
    "head_dim": None,
    "num_key_value_heads": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a Llama configuration states."""
    return Shape(
        family="llama",
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads or config.num_attention_heads,
        d_model=config.hidden_size,
        d_head=config.head_dim or config.hidden_size // config.num_attention_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
    )


def read_context(config: Any) -> int:
    """How many tokens a prompt may have."""
    return int(config.max_position_embeddings)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a Llama model's weights, by their names in `LlamaForCausalLM`."""
    shape = read_shape(config)
    embedding = weights[EMBEDDING]
    return Transformer(
        shape=shape,
        embedding=embedding,
        positions=None,
        rotary=Rotary(rotary_angles(config, shape.d_head)),
        blocks=tuple(_block(config, shape, weights, f"{PREFIX}layers.{layer}") for layer in range(shape.n_layers)),
        final_norm=Norm(weights[f"{PREFIX}norm.weight"], None, config.rms_norm_eps, centred=False),
        unembedding=embedding if config.tie_word_embeddings else weights["lm_head.weight"],
        mlp_out_names=tuple(f"{PREFIX}layers.{layer}.mlp.down_proj.weight" for layer in range(shape.n_layers)),
    )


def _block(config: Any, shape: Shape, weights: Mapping[str, Tensor], at: str) -> Block:
    queries, pairs = (shape.n_heads, shape.d_head), (shape.n_kv_heads, shape.d_head)

    def weight(name: str) -> Tensor:
        return weights[f"{at}.{name}.weight"]

    def bias(name: str) -> Tensor | None:
        has = config.attention_bias if name.startswith("self_attn") else config.mlp_bias
        return weights[f"{at}.{name}.bias"] if has else None

    def norm(name: str) -> Norm:
        return Norm(weight(name), None, config.rms_norm_eps, centred=False)

    def of_heads(name: str, heads: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        flat = bias(f"self_attn.{name}")
        rows = weight(f"self_attn.{name}").view(*heads, shape.d_model)
        return rows, None if flat is None else flat.view(heads)

    (w_q, b_q), (w_k, b_k) = of_heads("q_proj", queries), of_heads("k_proj", pairs)
    w_v, b_v = of_heads("v_proj", pairs)
    return Block(
        norm1=norm("input_layernorm"),
        attention=Attention(
            w_q=w_q,
            w_k=w_k,
            w_v=w_v,
            w_o=weight("self_attn.o_proj").view(shape.d_model, *queries).permute(1, 0, 2),
            b_q=b_q,
            b_k=b_k,
            b_v=b_v,
            b_o=bias("self_attn.o_proj"),
        ),
        norm2=norm("post_attention_layernorm"),
        mlp=Mlp(
            w_in=weight("mlp.up_proj"),
            b_in=bias("mlp.up_proj"),
            w_gate=weight("mlp.gate_proj"),
            b_gate=bias("mlp.gate_proj"),
            w_out=weight("mlp.down_proj"),
            b_out=bias("mlp.down_proj"),
            activation=activation(config.hidden_act),
        ),
    )
