"""GPT-2 models as a `Transformer`: LayerNorm, learned positions, one K/V head a query head, biases everywhere."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from knowcirc.models.activations import activation
from knowcirc.models.layers import Attention, Block, Mlp, Norm
from knowcirc.models.transformer import Shape, Transformer
from knowcirc.models.variants import expect

PREFIX = "transformer."
EMBEDDING = f"{PREFIX}wte.weight"
DEFAULTS: dict[str, Any] = {
    "n_inner": None,
    "n_positions": 1024,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}
"""What a configuration file may leave out."""


def read_shape(config: Any) -> Shape:
    """The sizes that a GPT-2 configuration states.

    Raises:
        ValueError: for attention variants that the forward pass does not compute.
    """
    expect(
        config,
        "GPT-2",
        scale_attn_by_inverse_layer_idx=False,
        scale_attn_weights=True,
        add_cross_attention=False,
    )
    d_model, n_heads = config.n_embd, config.n_head
    return Shape(
        family="gpt2",
        n_layers=config.n_layer,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_model=d_model,
        d_head=d_model // n_heads,
        d_mlp=config.n_inner or 4 * d_model,
        d_vocab=config.vocab_size,
    )


def read_context(config: Any) -> int:
    """How many tokens a prompt may have."""
    return int(config.n_positions)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a GPT-2 model's weights, by their names in `GPT2LMHeadModel`."""
    shape = read_shape(config)
    embedding = weights[EMBEDDING]
    return Transformer(
        shape=shape,
        embedding=embedding,
        positions=weights[f"{PREFIX}wpe.weight"],
        rotary=None,
        blocks=tuple(_block(config, shape, weights, f"{PREFIX}h.{layer}") for layer in range(shape.n_layers)),
        final_norm=_norm(config, weights, f"{PREFIX}ln_f"),
        unembedding=embedding if config.tie_word_embeddings else weights["lm_head.weight"],
        mlp_out_names=tuple(f"{PREFIX}h.{layer}.mlp.c_proj.weight" for layer in range(shape.n_layers)),
    )


def _norm(config: Any, weights: Mapping[str, Tensor], at: str) -> Norm:
    return Norm(weights[f"{at}.weight"], weights[f"{at}.bias"], config.layer_norm_epsilon, centred=True)


def _block(config: Any, shape: Shape, weights: Mapping[str, Tensor], at: str) -> Block:
    heads = (shape.n_heads, shape.d_head)
    inputs = weights[f"{at}.attn.c_attn.weight"].split(shape.d_model, 1)  # Conv1D holds (d_in, d_out)
    biases = weights[f"{at}.attn.c_attn.bias"].split(shape.d_model)
    w_q, w_k, w_v = (each.T.unflatten(0, heads) for each in inputs)
    b_q, b_k, b_v = (each.view(heads) for each in biases)
    return Block(
        norm1=_norm(config, weights, f"{at}.ln_1"),
        attention=Attention(
            w_q=w_q,
            w_k=w_k,
            w_v=w_v,
            w_o=weights[f"{at}.attn.c_proj.weight"].view(*heads, shape.d_model).permute(0, 2, 1),
            b_q=b_q,
            b_k=b_k,
            b_v=b_v,
            b_o=weights[f"{at}.attn.c_proj.bias"],
        ),
        norm2=_norm(config, weights, f"{at}.ln_2"),
        mlp=Mlp(
            w_in=weights[f"{at}.mlp.c_fc.weight"].T,
            b_in=weights[f"{at}.mlp.c_fc.bias"],
            w_gate=None,
            b_gate=None,
            w_out=weights[f"{at}.mlp.c_proj.weight"].T,
            b_out=weights[f"{at}.mlp.c_proj.bias"],
            activation=activation(config.activation_function),
        ),
    )
