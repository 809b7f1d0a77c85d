"""Tiny random models and a tokenizer of one token per word."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

MODELS = ("gpt2", "llama", "llama_biased")
"""One of every family at least; behind an underscore, what is special."""
VOCAB = 101
SIZES: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
GATED: dict[str, object] = {"num_key_value_heads": 2, "intermediate_size": 48}
WORDS = (
    "<s> <unk> is a the of in and people capital language spoken mostly speak lies France Italy Spain Peru Chile New "
    "Zealand Papua Guinea French Italian Spanish English Tok Pisin Paris Rome Madrid Lima Santiago Wellington city"
)


def random_network(name: str) -> PreTrainedModel:
    """A seeded tiny network; norms and biases are random too, so that leaving one out shows."""
    torch.manual_seed(MODELS.index(name))
    family, _, biased = name.partition("_")
    given: dict[str, object] = {} if family == "gpt2" else GATED
    if family == "llama":
        given = {**given, "attention_bias": bool(biased), "mlp_bias": bool(biased), "tie_word_embeddings": not biased}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **given))
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter.ndim == 1:
                is_scale = parameter_name.endswith("weight")
                parameter.copy_(0.3 * torch.randn_like(parameter) + is_scale)
    return network.eval()


def word_tokenizer(*, bos: bool = True) -> PreTrainedTokenizerFast:
    """One token per word; `<s>` (token 0) in front where `bos`."""
    known = WORDS.split()
    names = [*known, *(f"w{number}" for number in range(len(known), VOCAB))]
    backend = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    if bos:
        backend.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<s>", unk_token="<unk>")


def words(*, bos: bool = True) -> Tokenizer:
    """The same without what transformers puts around it."""
    return word_tokenizer(bos=bos).backend_tokenizer
