"""Tiny random models and a tokenizer of one token per word."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from knowcirc.models.families import FAMILIES

MODELS = (
    *("gpt2", "llama", "llama_biased", "mistral", "qwen3", "qwen2", "gpt_neox", "gpt_neox_serial", "olmo2", "gemma2"),
)
"""One of every family at least; behind the family's name and an underscore, what is special."""
FIRST = ("gpt2", "llama", "llama_biased")
"""Those that the tests with the most cases run on; the others meet some of the cases there."""
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
    "pad_token_id": None,
}
GATED: dict[str, object] = {"num_key_value_heads": 2, "intermediate_size": 48}
SPECIAL: dict[str, dict[str, object]] = {
    "gpt2": {},
    "llama": {**GATED, "tie_word_embeddings": True},
    "llama_biased": {**GATED, "attention_bias": True, "mlp_bias": True},
    "qwen2": {**GATED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": {**GATED, "head_dim": 8, "tie_word_embeddings": True},
    "mistral": {**GATED, "sliding_window": 4},
    "gpt_neox": {"intermediate_size": 48},
    "gpt_neox_serial": {"intermediate_size": 48, "use_parallel_residual": False},
    "olmo2": GATED,
    "gemma2": {
        **GATED,
        "head_dim": 8,
        "sliding_window": 3,
        "query_pre_attn_scalar": 5,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 8.0,
    },
}
"""What a tiny model has besides the sizes; windows are shorter than prompts."""
WORDS = (
    "<s> <unk> is a the of in and people capital language spoken mostly speak lies France Italy Spain Peru Chile New "
    "Zealand Papua Guinea French Italian Spanish English Tok Pisin Paris Rome Madrid Lima Santiago Wellington city"
)


def family_of(name: str) -> str:
    """The family of a tiny model."""
    return max((family for family in FAMILIES if name == family or name.startswith(f"{family}_")), key=len)


def random_network(name: str) -> PreTrainedModel:
    """A seeded tiny network of `MODELS`."""
    torch.manual_seed(MODELS.index(name))
    return network_of(family_of(name), **SPECIAL[name])


def network_of(family: str, **special: object) -> PreTrainedModel:
    """A tiny network; norms and biases are random too, so that leaving one out shows."""
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SIZES, **special}))
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
