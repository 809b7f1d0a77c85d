"""Every setting of a family that changes the arithmetic, against transformers; old files; edited models saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from knowcirc.editing.edits import Edit, Matrix, applied
from knowcirc.models.families import FAMILIES
from knowcirc.models.loading import LanguageModel, load
from knowcirc.models.saving import save_float32
from unit.tiny import GATED, SPECIAL, network_of, random_network, word_tokenizer

IDS = torch.randint(2, 101, (2, 14), generator=torch.Generator().manual_seed(0))
LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 1e4},
    "original_max_position_embeddings": 16,
}
FULL, SLIDING = "full_attention", "sliding_attention"
QWEN2, QWEN3, MISTRAL, NEOX, OLMO, GEMMA = (
    SPECIAL[name] for name in ("qwen2", "qwen3", "mistral", "gpt_neox", "olmo2", "gemma2")
)
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2-unused-window": ("qwen2", {**QWEN2, "use_sliding_window": False}),
    "qwen2-tied": ("qwen2", {**GATED, "tie_word_embeddings": True}),
    "qwen2-layer-types": ("qwen2", {**QWEN2, "layer_types": [SLIDING, FULL, SLIDING]}),
    "qwen2-yarn": ("qwen2", {**GATED, "rope_parameters": YARN}),
    "qwen2-gelu": ("qwen2", {**GATED, "hidden_act": "gelu"}),
    "qwen3-biased": ("qwen3", {**QWEN3, "attention_bias": True, "tie_word_embeddings": False}),
    "qwen3-other-head-size": ("qwen3", {**QWEN3, "head_dim": 12}),
    "qwen3-windows": ("qwen3", {**QWEN3, "use_sliding_window": True, "sliding_window": 2, "max_window_layers": 2}),
    "qwen3-one-kv-head": ("qwen3", {**QWEN3, "num_key_value_heads": 1}),
    "qwen3-llama3": ("qwen3", {**QWEN3, "rope_parameters": LLAMA3}),
    "mistral-no-window": ("mistral", {**MISTRAL, "sliding_window": None}),
    "mistral-narrow": ("mistral", {**MISTRAL, "sliding_window": 1, "head_dim": 12}),
    "mistral-wide-tied": ("mistral", {**MISTRAL, "sliding_window": 64, "tie_word_embeddings": True}),
    "mistral-linear": ("mistral", {**MISTRAL, "rope_parameters": LINEAR}),
    "neox-whole-heads": ("gpt_neox", {**NEOX, "rotary_pct": 1.0}),
    "neox-half-heads": ("gpt_neox", {**NEOX, "rotary_pct": 0.5, "rotary_emb_base": 500}),
    "neox-unbiased": ("gpt_neox", {**NEOX, "attention_bias": False}),
    "neox-serial-tied": ("gpt_neox", {**NEOX, "use_parallel_residual": False, "tie_word_embeddings": True}),
    "neox-gelu-new": ("gpt_neox", {**NEOX, "hidden_act": "gelu_new"}),
    "neox-gelu-fast": ("gpt_neox", {**NEOX, "hidden_act": "gelu_fast"}),
    "neox-linear": ("gpt_neox", {**NEOX, "rope_parameters": {**LINEAR, "partial_rotary_factor": 0.5}}),
    "olmo2-ungrouped-tied": ("olmo2", {"intermediate_size": 48, "tie_word_embeddings": True}),
    "olmo2-one-kv-head": ("olmo2", {**OLMO, "num_key_value_heads": 1}),
    "olmo2-yarn": ("olmo2", {**OLMO, "rope_parameters": YARN}),
    "gemma2-uncapped": ("gemma2", {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma2-layer-types": ("gemma2", {**GEMMA, "layer_types": [FULL, FULL, SLIDING]}),
    "gemma2-untied": ("gemma2", {**GEMMA, "tie_word_embeddings": False, "hidden_activation": "gelu"}),
    "gemma2-other-head-size": ("gemma2", {**GEMMA, "head_dim": 12, "query_pre_attn_scalar": 144}),
}


def every_logit(model: LanguageModel) -> Tensor:
    *_, last = model.transformer.stream(IDS)
    return model.transformer.unembed(last)


def expected_logits(folder: Path) -> Tensor:
    network = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        return network.eval()(IDS, use_cache=False).logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_transformers_in_every_variant(variant: str, tmp_path: Path) -> None:
    family, special = VARIANTS[variant]
    torch.manual_seed(1)
    network_of(family, **special).save_pretrained(tmp_path)
    torch.testing.assert_close(every_logit(load(tmp_path, device="cpu")), expected_logits(tmp_path), rtol=0, atol=1e-4)


def test_every_family_with_variants_is_here() -> None:
    assert {family for family, _ in VARIANTS.values()} == set(FAMILIES) - {"gpt2", "llama"}


@pytest.mark.parametrize(
    ("name", "drop", "old"),
    [
        ("gpt_neox", ["rope_parameters", "attention_bias"], {"rotary_pct": 0.5, "rotary_emb_base": 700}),
        ("gpt_neox", ["rope_parameters"], {"rotary_pct": 0.5, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("qwen2", ["rope_parameters", "layer_types"], {"rope_theta": 700.0}),
        ("qwen3", ["rope_parameters", "layer_types"], {"rope_theta": 700.0}),
        ("mistral", ["rope_parameters", "sliding_window"], {"rope_theta": 700.0}),
        ("olmo2", ["rope_parameters"], {"rope_theta": 700.0, "clip_qkv": None}),
        ("gemma2", ["rope_parameters", "layer_types"], {"rope_theta": 700.0, "hidden_act": "gelu_pytorch_tanh"}),
    ],
)
def test_configurations_as_older_files_have_them(
    name: str, drop: list[str], old: dict[str, Any], tmp_path: Path
) -> None:
    random_network(name).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = {key: value for key, value in json.loads(path.read_text("utf-8")).items() if key not in drop}
    path.write_text(json.dumps(config | old), "utf-8")
    torch.testing.assert_close(every_logit(load(tmp_path, device="cpu")), expected_logits(tmp_path), rtol=0, atol=1e-4)


def test_pythias_old_names_of_weights_are_read(tmp_path: Path) -> None:
    random_network("gpt_neox").save_pretrained(tmp_path)
    before = every_logit(load(tmp_path, device="cpu"))
    path = tmp_path / "model.safetensors"
    tensors = {name.replace("lm_head.", "embed_out."): each.clone() for name, each in load_file(path).items()}
    assert "embed_out.weight" in tensors
    masks = {"gpt_neox.layers.0.attention.bias": torch.ones(1, 1, 8, 8, dtype=torch.bool)}
    masks |= {"gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9)}
    save_file(tensors | masks, path, metadata={"format": "pt"})
    assert torch.equal(every_logit(load(tmp_path, device="cpu")), before)


def test_an_edited_model_is_saved_as_transformers_loads_it(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders[name], device="cpu")
    parts = [Matrix(1), Matrix(2, "query"), Matrix(0, "value")]
    edit = Edit({part: 1.5 * part.view(model.own) for part in parts}, {})
    unedited = every_logit(model)
    with applied(model, edit) as edited:
        save_float32(edited, tmp_path)
        written = every_logit(edited)
    assert (written - unedited).abs().max() > 1e-3
    word_tokenizer().save_pretrained(tmp_path)
    torch.testing.assert_close(expected_logits(tmp_path), written, rtol=0, atol=1e-4)
    torch.testing.assert_close(every_logit(load(tmp_path, device="cpu")), written, rtol=0, atol=1e-6)
