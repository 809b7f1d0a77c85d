"""GPT-2 models as a `Transformer`: LayerNorm, learned positions, one K/V head a query head, biases everywhere."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from knowcirc.models.layers import Attention, Block, Mlp, Norm
from knowcirc.models.transformer import Shape, Transformer


def read_shape(config: Any) -> Shape:
    """The sizes that a GPT-2 configuration states.

    Raises:
        ValueError: for attention variants that the forward pass does not compute.
    """
    for key, expected in (
        ("scale_attn_by_inverse_layer_idx", False),
        ("scale_attn_weights", True),
        ("add_cross_attention", False),
    ):
        if getattr(config, key, expected) != expected:
            raise ValueError(f"GPT-2 with {key}={not expected} is not supported; expected {expected}")
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


def adapt(model: PreTrainedModel) -> Transformer:
    """Views of a `GPT2LMHeadModel`'s parameters."""
    shape = read_shape(model.config)
    body: Any = model.transformer
    return Transformer(
        shape=shape,
        embedding=body.wte.weight,
        positions=body.wpe.weight,
        rotary=None,
        blocks=tuple(_block(layer, shape, model.config.activation_function) for layer in body.h),
        final_norm=_norm(body.ln_f),
        unembedding=model.get_output_embeddings().weight,
        mlp_out_names=tuple(f"transformer.h.{layer}.mlp.c_proj.weight" for layer in range(shape.n_layers)),
    )


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.bias, module.eps, centred=True)


def _block(layer: Any, shape: Shape, activation: str) -> Block:
    heads = (shape.n_heads, shape.d_head)
    weights = layer.attn.c_attn.weight.split(shape.d_model, 1)  # Conv1D holds (d_in, d_out)
    biases = layer.attn.c_attn.bias.split(shape.d_model)

    def weight(index: int) -> Tensor:
        return weights[index].T.unflatten(0, heads)

    return Block(
        norm1=_norm(layer.ln_1),
        attention=Attention(
            w_q=weight(0),
            w_k=weight(1),
            w_v=weight(2),
            w_o=layer.attn.c_proj.weight.view(*heads, shape.d_model).permute(0, 2, 1),
            b_q=biases[0].view(heads),
            b_k=biases[1].view(heads),
            b_v=biases[2].view(heads),
            b_o=layer.attn.c_proj.bias,
        ),
        norm2=_norm(layer.ln_2),
        mlp=Mlp(
            w_in=layer.mlp.c_fc.weight.T,
            b_in=layer.mlp.c_fc.bias,
            w_gate=None,
            b_gate=None,
            w_out=layer.mlp.c_proj.weight.T,
            b_out=layer.mlp.c_proj.bias,
            activation=ACT2FN[activation],
        ),
    )
