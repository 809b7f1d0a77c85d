"""GPT-NeoX models (Pythia) as a `Transformer`: attention and MLP side by side, rotary positions in parts of heads."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models.activations import activation
from knowcirc.models.layers import Attention, Block, Mlp, Norm, Rotary
from knowcirc.models.rotary import BASE, rotary_angles, rotary_settings
from knowcirc.models.transformer import Shape, Transformer

PREFIX = "gpt_neox."
EMBEDDING = f"{PREFIX}embed_in.weight"
DEFAULTS: dict[str, Any] = {
    "hidden_act": "gelu",
    "max_position_embeddings": 2048,
    "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000.0,
    "use_parallel_residual": True,
    "attention_bias": True,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a GPT-NeoX configuration states."""
    return Shape(
        family="gpt_neox",
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_attention_heads,
        d_model=config.hidden_size,
        d_head=config.hidden_size // config.num_attention_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        parallel=bool(config.use_parallel_residual),
    )


def read_context(config: Any) -> int:
    """How many tokens a prompt may have."""
    return int(config.max_position_embeddings)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a GPT-NeoX model's weights, by their names in `GPTNeoXForCausalLM`."""
    shape = read_shape(config)
    embedding = weights[EMBEDDING]
    share = rotary_settings(config).get("partial_rotary_factor", getattr(config, "rotary_pct", 0.25))
    angles = rotary_angles(config, int(shape.d_head * share), base=float(getattr(config, "rotary_emb_base", BASE)))
    names = [f"{PREFIX}layers.{layer}" for layer in range(shape.n_layers)]
    return Transformer(
        shape=shape,
        embedding=embedding,
        positions=None,
        rotary=Rotary(angles),
        blocks=tuple(_block(config, shape, weights, at) for at in names),
        final_norm=_norm(config, weights, f"{PREFIX}final_layer_norm"),
        unembedding=embedding if config.tie_word_embeddings else weights["lm_head.weight"],
        mlp_out_names=tuple(f"{at}.mlp.dense_4h_to_h.weight" for at in names),
    )


def _norm(config: Any, weights: Mapping[str, Tensor], at: str) -> Norm:
    return Norm(weights[f"{at}.weight"], weights[f"{at}.bias"], config.layer_norm_eps, centred=True)


def _block(config: Any, shape: Shape, weights: Mapping[str, Tensor], at: str) -> Block:
    heads = (shape.n_heads, shape.d_head)
    fused = f"{at}.attention.query_key_value"  # head by head: its queries, its keys, its values
    w_q, w_k, w_v = weights[f"{fused}.weight"].view(shape.n_heads, 3, shape.d_head, shape.d_model).unbind(1)
    biased = config.attention_bias
    b_q, b_k, b_v = weights[f"{fused}.bias"].view(shape.n_heads, 3, shape.d_head).unbind(1) if biased else [None] * 3
    return Block(
        norm1=_norm(config, weights, f"{at}.input_layernorm"),
        attention=Attention(
            w_q=w_q,
            w_k=w_k,
            w_v=w_v,
            w_o=weights[f"{at}.attention.dense.weight"].view(shape.d_model, *heads).permute(1, 0, 2),
            b_q=b_q,
            b_k=b_k,
            b_v=b_v,
            b_o=weights[f"{at}.attention.dense.bias"] if biased else None,
        ),
        norm2=_norm(config, weights, f"{at}.post_attention_layernorm"),
        mlp=Mlp(
            w_in=weights[f"{at}.mlp.dense_h_to_4h.weight"],
            b_in=weights[f"{at}.mlp.dense_h_to_4h.bias"],
            w_gate=None,
            b_gate=None,
            w_out=weights[f"{at}.mlp.dense_4h_to_h.weight"],
            b_out=weights[f"{at}.mlp.dense_4h_to_h.bias"],
            activation=activation(config.hidden_act),
        ),
    )
