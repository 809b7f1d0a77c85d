"""Networks of the papers' widths and heads with few layers and weights from a seed, which know facts of their texts.

1. A tokenizer of the family's kind is trained on the texts: bytes for GPT-2, SentencePiece's pieces for Llama.
2. All matrices are drawn; the last MLP's output matrix is then fitted by least squares, so that the final stream of
   each prompt points to its answer's embedding. With fewer prompts than the MLP has neurons, nearly every fact ranks
   first.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

CONTEXT, VOCAB = 256, 2000
RIDGE = 1e-4  # of the mean square of a neuron


@dataclass(frozen=True, slots=True)
class StandIn:
    """A model of the papers, its sizes but for the depth, and how many layers are left of how many."""

    name: str
    family: str
    width: int
    heads: int
    layers: int
    of: int
    kv_heads: int = 0
    mlp: int = 0


STAND_INS = {
    each.name: each
    for each in (
        StandIn("gpt2-medium", "gpt2", 1024, 16, 3, 24),
        StandIn("gpt2-large", "gpt2", 1280, 20, 3, 36),
        StandIn("gpt2-xl", "gpt2", 1600, 25, 4, 48),
        StandIn("tinyllama-1.1b-3t", "llama", 2048, 32, 3, 22, kv_heads=4, mlp=2816),
    )
}


def save(each: StandIn, folder: Path, texts: Sequence[str], facts: Sequence[tuple[str, str]]) -> float:
    """Save the model that knows `facts` (prompt, answer) as a folder; the share of them whose answer ranks first."""
    tokenizer = train(each.family, texts)
    network = build(each, tokenizer)
    rows = [tokenizer(prompt)["input_ids"] for prompt, _ in facts]
    answers = [_first_token(tokenizer, prompt, answer) for prompt, answer in facts]
    fit(network, rows, answers)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    said = [int(_read(network, row)[2].argmax()) for row in rows]
    return sum(map(int.__eq__, said, answers)) / len(answers)


def _first_token(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> int:
    start = tokenizer(prompt)["input_ids"]
    return int(tokenizer(f"{prompt} {answer}")["input_ids"][len(start)])


# -- tokenizers ----------------------------------------------------------------------------------------------------


def train(family: str, texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the family's kind, trained on the texts."""
    if family == "gpt2":
        pipeline = Tokenizer(BPE())
        pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pipeline.decoder = decoders.ByteLevel()
        pipeline.post_processor = processors.ByteLevel(trim_offsets=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        end = "<|endoftext|>"
        pipeline.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[end], initial_alphabet=alphabet)
        )
        return PreTrainedTokenizerFast(tokenizer_object=pipeline, bos_token=end, eos_token=end, unk_token=end)
    return PreTrainedTokenizerFast(
        tokenizer_object=_pieces(texts), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _pieces(texts: Sequence[str]) -> Tokenizer:
    """SentencePiece's way: spaces are part of the pieces, unknown characters are bytes, a start token in front."""
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained = Tokenizer(BPE())
    trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCAB))
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = sorted(trained.get_vocab(), key=trained.get_vocab().__getitem__)
    merges = [tuple(pair) for pair in _merges(trained)]
    vocabulary = {piece: place for place, piece in enumerate([*first, *pieces])}
    pipeline = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    pipeline.normalizer = normalizer
    pipeline.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pipeline.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return pipeline


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    found = json.loads(tokenizer.to_str())["model"]["merges"]
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in found]


# -- networks ------------------------------------------------------------------------------------------------------


def build(each: StandIn, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The network with all matrices drawn, each so that its outputs are as large as its inputs."""
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": each.width,
        "num_hidden_layers": each.layers,
        "num_attention_heads": each.heads,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if each.family == "llama":
        sizes |= {"num_key_value_heads": each.kv_heads, "intermediate_size": each.mlp, "tie_word_embeddings": False}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(each.family, **sizes))
    draws = torch.Generator().manual_seed(len(each.name))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2:
                wide = "wte" in name or "wpe" in name or "embed" in name or "lm_head" in name
                fan_in = each.width if wide or each.family == "llama" else parameter.shape[0]
                parameter.copy_(torch.randn(parameter.shape, generator=draws) / max(fan_in, each.width) ** 0.5)
    return network.eval()


@torch.no_grad()
def fit(network: PreTrainedModel, rows: Sequence[Sequence[int]], answers: Sequence[int]) -> None:
    """Fit the last MLP's output matrix, so that the final stream of each row points to its answer."""
    module = _last_output(network)
    read = [_read(network, row) for row in rows]
    inputs, final = (torch.stack(each).double() for each in zip(*((i, f) for i, f, _ in read), strict=True))
    before = final - inputs @ _matrix(module).double()
    directions = network.get_output_embeddings().weight[list(answers)].double()
    scale = before.norm(dim=-1).mean() * 2
    targets = scale * directions / directions.norm(dim=-1, keepdim=True)
    gram = inputs @ inputs.T
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    _matrix(module).copy_((inputs.T @ torch.linalg.solve(gram, targets - before)).float())


def _last_output(network: PreTrainedModel) -> torch.nn.Module:
    if network.config.model_type == "gpt2":
        return network.transformer.h[-1].mlp.c_proj  # type: ignore[no-any-return]
    return network.model.layers[-1].mlp.down_proj  # type: ignore[no-any-return]


def _matrix(module: Any) -> Tensor:
    """Its weight as (neuron, width): a view."""
    return module.weight.data if type(module).__name__ == "Conv1D" else module.weight.data.T


@torch.no_grad()
def _read(network: PreTrainedModel, row: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """At the last position: what the last MLP's output matrix reads, the final stream before its norm, the logits."""
    norm = network.transformer.ln_f if network.config.model_type == "gpt2" else network.model.norm
    found: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, given: found.append(given[0][0, -1]))
        for module in (_last_output(network), norm)
    ]
    logits = network(torch.tensor([list(row)])).logits[0, -1]
    for handle in handles:
        handle.remove()
    return found[0], found[1], logits
