"""Llama models (SmolLM2, TinyLlama, Llama) as a `Transformer`: RMSNorm, rotary positions, grouped K/V, gated MLP.

Families that differ from Llama in little (Qwen, Mistral, OLMo, Gemma) are made here, too: their modules say in what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from knowcirc.models.activations import activation
from knowcirc.models.layers import Attention, Block, Mlp, NoNorm, Norm, Rotary
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
QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
ATTENTION = (*QKV, "self_attn.o_proj")
MLP = ("mlp.up_proj", "mlp.gate_proj", "mlp.down_proj")


@dataclass(frozen=True, slots=True)
class Traits:
    """In what a family differs from Llama.

    `biased` names the maps that have a bias; `norms` the norms before and behind attention, before and behind the MLP
    (None: there is none). `offset` is added to the weights of norms; `normed_heads`: queries and keys are normed.
    `windows` are by layer; the other fields as in `Attention` and `Transformer`.
    """

    activation: str
    biased: tuple[str, ...] = ()
    norms: tuple[str | None, str | None, str | None, str | None] = (
        "input_layernorm",
        None,
        "post_attention_layernorm",
        None,
    )
    offset: float = 0.0
    normed_heads: bool = False
    windows: Sequence[int | None] | None = None
    divisor: float | None = None
    cap: float | None = None
    embed_scale: float = 1.0
    logit_cap: float | None = None


def read_shape(config: Any) -> Shape:
    """The sizes that a Llama configuration states."""
    return shape_of(config, "llama")


def shape_of(config: Any, family: str) -> Shape:
    """The sizes that a configuration with Llama's names states."""
    return Shape(
        family=family,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads or config.num_attention_heads,
        d_model=config.hidden_size,
        d_head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
    )


def read_context(config: Any) -> int:
    """How many tokens a prompt may have."""
    return int(config.max_position_embeddings)


def adapt(config: Any, weights: Mapping[str, Tensor]) -> Transformer:
    """Views of a Llama model's weights, by their names in `LlamaForCausalLM`."""
    biased = (ATTENTION if config.attention_bias else ()) + (MLP if config.mlp_bias else ())
    return adapt_like(config, weights, read_shape(config), Traits(config.hidden_act, biased))


def adapt_like(config: Any, weights: Mapping[str, Tensor], shape: Shape, traits: Traits) -> Transformer:
    """Views of the weights of a model whose weights have Llama's names."""
    embedding = weights[EMBEDDING]
    names = [f"{PREFIX}layers.{layer}" for layer in range(shape.n_layers)]
    return Transformer(
        shape=shape,
        embedding=embedding,
        positions=None,
        rotary=Rotary(rotary_angles(config, shape.d_head)),
        blocks=tuple(_block(config, shape, traits, weights, at, layer) for layer, at in enumerate(names)),
        final_norm=_norm(config, traits, weights[f"{PREFIX}norm.weight"]),
        unembedding=embedding if config.tie_word_embeddings else weights["lm_head.weight"],
        mlp_out_names=tuple(f"{at}.mlp.down_proj.weight" for at in names),
        embed_scale=traits.embed_scale,
        logit_cap=traits.logit_cap,
    )


def _norm(config: Any, traits: Traits, weight: Tensor) -> Norm:
    return Norm(weight + traits.offset if traits.offset else weight, None, config.rms_norm_eps, centred=False)


def _block(config: Any, shape: Shape, traits: Traits, weights: Mapping[str, Tensor], at: str, layer: int) -> Block:
    queries, pairs = (shape.n_heads, shape.d_head), (shape.n_kv_heads, shape.d_head)

    def weight(name: str) -> Tensor:
        return weights[f"{at}.{name}.weight"]

    def bias(name: str) -> Tensor | None:
        return weights[f"{at}.{name}.bias"] if name in traits.biased else None

    def norm(name: str) -> Norm:
        return _norm(config, traits, weight(name))

    def of_heads(name: str, heads: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
        flat = bias(f"self_attn.{name}")
        rows = weight(f"self_attn.{name}").view(*heads, shape.d_model)
        return rows, None if flat is None else flat.view(heads)

    (w_q, b_q), (w_k, b_k) = of_heads("q_proj", queries), of_heads("k_proj", pairs)
    w_v, b_v = of_heads("v_proj", pairs)
    before1, behind1, before2, behind2 = traits.norms
    return Block(
        norm1=NoNorm.like(w_q[0, 0]) if before1 is None else norm(before1),
        attention=Attention(
            w_q=w_q,
            w_k=w_k,
            w_v=w_v,
            w_o=weight("self_attn.o_proj").view(shape.d_model, *queries).permute(1, 0, 2),
            b_q=b_q,
            b_k=b_k,
            b_v=b_v,
            b_o=bias("self_attn.o_proj"),
            q_norm=norm("self_attn.q_norm") if traits.normed_heads else None,
            k_norm=norm("self_attn.k_norm") if traits.normed_heads else None,
            divisor=traits.divisor,
            cap=traits.cap,
            window=None if traits.windows is None else traits.windows[layer],
        ),
        norm2=NoNorm.like(w_q[0, 0]) if before2 is None else norm(before2),
        mlp=Mlp(
            w_in=weight("mlp.up_proj"),
            b_in=bias("mlp.up_proj"),
            w_gate=weight("mlp.gate_proj"),
            b_gate=bias("mlp.gate_proj"),
            w_out=weight("mlp.down_proj"),
            b_out=bias("mlp.down_proj"),
            activation=activation(traits.activation),
        ),
        post1=None if behind1 is None else norm(behind1),
        post2=None if behind2 is None else norm(behind2),
    )
