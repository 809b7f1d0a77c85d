"""Llama models (SmolLM2, TinyLlama, Llama) as a `Transformer`: RMSNorm, rotary positions, grouped K/V, gated MLP."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from knowcirc.models.layers import Attention, Block, Mlp, Norm, Rotary
from knowcirc.models.transformer import Shape, Transformer


def read_shape(config: Any) -> Shape:
    """The sizes that a Llama configuration states."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        family="llama",
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        d_model=config.hidden_size,
        d_head=head,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
    )


def adapt(model: PreTrainedModel) -> Transformer:
    """Views of a `LlamaForCausalLM`'s parameters."""
    body: Any = model.model
    shape = read_shape(model.config)
    return Transformer(
        shape=shape,
        embedding=body.embed_tokens.weight,
        positions=None,
        rotary=Rotary(body.rotary_emb),
        blocks=tuple(_block(layer, shape, model.config.hidden_act) for layer in body.layers),
        final_norm=_norm(body.norm),
        unembedding=model.get_output_embeddings().weight,
        mlp_out_names=tuple(f"model.layers.{layer}.mlp.down_proj.weight" for layer in range(shape.n_layers)),
    )


def _norm(module: Any) -> Norm:
    return Norm(module.weight, None, module.variance_epsilon, centred=False)


def _block(layer: Any, shape: Shape, activation: str) -> Block:
    att, mlp = layer.self_attn, layer.mlp
    queries, pairs = (shape.n_heads, shape.d_head), (shape.n_kv_heads, shape.d_head)

    def bias(linear: Any, heads: tuple[int, int]) -> Tensor | None:
        return None if linear.bias is None else linear.bias.view(heads)

    return Block(
        norm1=_norm(layer.input_layernorm),
        attention=Attention(
            w_q=att.q_proj.weight.view(*queries, shape.d_model),
            w_k=att.k_proj.weight.view(*pairs, shape.d_model),
            w_v=att.v_proj.weight.view(*pairs, shape.d_model),
            w_o=att.o_proj.weight.view(shape.d_model, *queries).permute(1, 0, 2),
            b_q=bias(att.q_proj, queries),
            b_k=bias(att.k_proj, pairs),
            b_v=bias(att.v_proj, pairs),
            b_o=att.o_proj.bias,
        ),
        norm2=_norm(layer.post_attention_layernorm),
        mlp=Mlp(
            w_in=mlp.up_proj.weight,
            b_in=mlp.up_proj.bias,
            w_gate=mlp.gate_proj.weight,
            b_gate=mlp.gate_proj.bias,
            w_out=mlp.down_proj.weight,
            b_out=mlp.down_proj.bias,
            activation=ACT2FN[activation],
        ),
    )
