"""Tiny random models and a tokenizer of one token a word."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

MODELS = ("gpt2", "llama", "llama_biased")
VOCAB = 101
WORDS = (
    "<s> <unk> is a the of in and people capital language spoken mostly speak lies France Italy Spain Peru Chile New "
    "Zealand Papua Guinea French Italian Spanish English Tok Pisin Paris Rome Madrid Lima Santiago Wellington city"
)


def random_network(name: str) -> PreTrainedModel:
    """A seeded tiny network; norms and biases are random too, so that leaving one out shows."""
    torch.manual_seed(MODELS.index(name))
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    if name == "gpt2":
        sizes = {"n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
        network = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, initializer_range=0.2, **sizes, **ends))
    else:
        biased = name == "llama_biased"
        config = LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.2,
            attention_bias=biased,
            mlp_bias=biased,
            tie_word_embeddings=not biased,
            **ends,
        )
        network = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                is_scale = parameter_name.endswith("weight")
                parameter.copy_(0.3 * torch.randn_like(parameter) + is_scale)
    return network.eval()


def word_tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a word; `<s>` (token 0) in front where `bos`."""
    words = WORDS.split()
    names = [*words, *(f"w{number}" for number in range(len(words), VOCAB))]
    backend = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    if bos:
        backend.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>", unk_token="<unk>")
