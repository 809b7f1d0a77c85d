"""Folders of models with drawn weights in the shapes of real ones, made without transformers.

Weights are drawn so that every matrix gives outputs as large as its inputs: edges of all layers matter then, and a
search has as much to decide as on a trained model. What such a model says means nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from knowcirc.facts.prompts import Prompt, fill
from knowcirc.models.loading import LanguageModel

CONTEXT = 128
TEMPLATE = "w3 w4 w5 {} w6 w7"


@dataclass(frozen=True, slots=True)
class Model:
    """The sizes of a model; `kv_heads` 0: a GPT-2, else a Llama."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocab: int


SHAPES = (
    Model("smollm2-135m", 30, 576, 9, 3, 1536, 49152),
    Model("gpt2-medium", 24, 1024, 16, 0, 4096, 50257),
)
SMALL = (
    Model("small-llama", 4, 64, 4, 2, 96, 400),
    Model("small-gpt2", 4, 64, 4, 0, 256, 400),
)


def save(model: Model, folder: Path) -> Path:
    """Write the model's folder: configuration, weights, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    draws = torch.Generator().manual_seed(model.layers)
    make = _llama if model.kv_heads else _gpt2
    config, weights = make(model, draws)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(weights, folder / "model.safetensors")
    _words(model.vocab).save(str(folder / "tokenizer.json"))
    # As a fetched folder has it: its logits need not be compared with those of transformers, which may not be there.
    (folder / "provenance.json").write_text("{}", "utf-8")
    return folder


def prompts_of(model: LanguageModel, number: int) -> list[Prompt]:
    """Prompts of one wording whose answers are what the model says first."""
    found = []
    for i in range(number):
        prompt = fill(model.text, TEMPLATE, f"w{20 + i} w{60 + 7 * i % 97}", "w9")
        answer = int(model.transformer.logits(model.batch([prompt.ids]))[0].argmax())
        found.append(Prompt(prompt.text, prompt.ids, prompt.span, f" w{answer}", (answer,)))
    return found


def _words(number: int) -> Tokenizer:
    """A tokenizer of one token per word w0, w1, ...; w0 in front of every text."""
    pipeline = Tokenizer(WordLevel({f"w{i}": i for i in range(number)}, unk_token="w1"))
    pipeline.pre_tokenizer = WhitespaceSplit()
    pipeline.post_processor = TemplateProcessing(single="w0 $A", pair="w0 $A w0 $B", special_tokens=[("w0", 0)])
    return pipeline


def _drawn(draws: torch.Generator, *shape: int, fan_in: int) -> Tensor:
    return torch.randn(*shape, generator=draws) / fan_in**0.5


def _llama(model: Model, draws: torch.Generator) -> tuple[dict[str, Any], dict[str, Tensor]]:
    width, head = model.width, model.width // model.heads
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": model.mlp,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "vocab_size": model.vocab,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    weights = {"model.embed_tokens.weight": _drawn(draws, model.vocab, width, fan_in=1)}
    weights["lm_head.weight"] = _drawn(draws, model.vocab, width, fan_in=width)  # tied ones would repeat the last token
    sizes = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (model.kv_heads * head, width),
        "self_attn.v_proj": (model.kv_heads * head, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (model.mlp, width),
        "mlp.up_proj": (model.mlp, width),
        "mlp.down_proj": (width, model.mlp),
    }
    for layer in range(model.layers):
        place = f"model.layers.{layer}"
        weights |= {f"{place}.{name}.weight": _drawn(draws, *size, fan_in=size[1]) for name, size in sizes.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{place}.{norm}.weight"] = torch.ones(width)
    weights["model.norm.weight"] = torch.ones(width)
    return config, weights


def _gpt2(model: Model, draws: torch.Generator) -> tuple[dict[str, Any], dict[str, Tensor]]:
    width = model.width
    config: dict[str, Any] = {
        "model_type": "gpt2",
        "n_embd": width,
        "n_layer": model.layers,
        "n_head": model.heads,
        "n_inner": model.mlp,
        "n_positions": CONTEXT,
        "vocab_size": model.vocab,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    weights = {
        "transformer.wte.weight": _drawn(draws, model.vocab, width, fan_in=1),
        "transformer.wpe.weight": 0.1 * _drawn(draws, CONTEXT, width, fan_in=1),
        "lm_head.weight": _drawn(draws, model.vocab, width, fan_in=width),
    }
    sizes = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, model.mlp),
        "mlp.c_proj": (model.mlp, width),
    }
    norms = [f"transformer.h.{layer}.{name}" for layer in range(model.layers) for name in ("ln_1", "ln_2")]
    for layer in range(model.layers):
        for name, size in sizes.items():
            place = f"transformer.h.{layer}.{name}"
            weights[f"{place}.weight"] = _drawn(draws, *size, fan_in=size[0])  # GPT-2 keeps its matrices transposed
            weights[f"{place}.bias"] = 0.1 * torch.randn(size[1], generator=draws)
    for norm in [*norms, "transformer.ln_f"]:
        weights |= {f"{norm}.weight": torch.ones(width), f"{norm}.bias": torch.zeros(width)}
    return config, weights
