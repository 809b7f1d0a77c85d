"""A model folder is configuration, weights and tokenizer: what one of them lacks or has too much is named."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM

from knowcirc.commands.models import load_tokenizer
from knowcirc.editing.edits import request
from knowcirc.editing.moments import load_moment, save_moment, second_moments
from knowcirc.editing.sampling import sample, special_tokens, start_token
from knowcirc.editing.values import keys_of
from knowcirc.facts.knowledge import answer_prompts
from knowcirc.facts.prompts import tokenise
from knowcirc.models.fetching import fetch
from knowcirc.models.loading import load, weights_digest
from knowcirc.models.saving import save_float32
from knowcirc.models.table import FetchRow
from unit.tiny import VOCAB, random_network, word_tokenizer, words


def row(folder: Path, family: str = "llama", bos: str = "tokenizer") -> FetchRow:
    """A row of the table of models for a folder of this machine."""
    about = {"revision": "", "sha256": "", "licence": "MIT", "n_layers": 3}
    return FetchRow(model="tiny", family=family, source="local", location=str(folder), bos=bos, **about)  # type: ignore[arg-type]


def copy(folder: Path, place: Path, **changes: object) -> Path:
    """A copy of a folder, with other settings in its configuration."""
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text("utf-8"))
    (place / "config.json").write_text(json.dumps(config | changes), "utf-8")
    return place


def spoil(folder: Path, name: str, value: float) -> None:
    """Put a number into the folder's weights."""
    weights = load_file(folder / "model.safetensors")
    weights[name].flatten()[3] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Inside, new files get these permissions taken away."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def fetched(source: Path, out: Path, **about: str) -> str:
    """What fetching a folder complains of; nothing is left behind."""
    with pytest.raises(ValueError, match=r".") as error:
        fetch(row(source, **about), out, mirror=None, offline=True)
    assert not (out / "provenance.json").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("llama_biased", {"attention_bias": False}, "model.layers.0.self_attn.k_proj.bias"),
        ("llama_biased", {"mlp_bias": False}, "model.layers.0.mlp.down_proj.bias"),
        ("llama", {"num_hidden_layers": 2}, "model.layers.2.input_layernorm.weight"),
    ],
)
def test_weights_that_the_configuration_does_not_use_are_named_by_study_and_command_alike(
    folders: dict[str, Path], tmp_path: Path, name: str, changes: dict[str, object], named: str
) -> None:
    source = copy(folders[name], tmp_path / "source", **changes)
    said = fetched(source, tmp_path / "out")
    assert f"holds the weights {named} (" in said
    assert "which its config.json does not use" in said
    with pytest.raises(ValueError, match="does not use"):
        load(source, device="cpu")


def test_weights_that_are_missing_are_not_drawn(folders: dict[str, Path], tmp_path: Path) -> None:
    source = copy(folders["llama"], tmp_path / "source", num_hidden_layers=4)
    assert "lacks the weights model.layers.3." in fetched(source, tmp_path / "out")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_number_is_named(folders: dict[str, Path], tmp_path: Path, value: float) -> None:
    source = copy(folders["llama"], tmp_path / "source")
    name = "model.layers.1.mlp.down_proj.weight"
    spoil(source, name, value)
    expected = rf"weights {name}: 1 of 1536 are not finite in float32 \(the first is {value}\); compute in float32 or"
    with pytest.raises(ValueError, match=expected):
        load(source, device="cpu")
    assert f"weights {name}: 1 of 1536 are not finite" in fetched(source, tmp_path / "out")


def test_a_weight_that_overflows_in_the_asked_type_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    source = copy(folders["gpt2"], tmp_path / "source")
    spoil(source, "transformer.h.1.mlp.c_proj.weight", 1e6)
    with pytest.raises(ValueError, match=r"c_proj\.weight: 1 of 4096 are not finite in float16 \(the first is inf\)"):
        load(source, device="cpu", dtype="float16")
    assert load(source, device="cpu").weights["transformer.h.1.mlp.c_proj.weight"].max() == 1e6


def test_weights_that_are_not_read_are_no_models_identity(folders: dict[str, Path], tmp_path: Path) -> None:
    """Two folders of one configuration with pickled weights would have one digest, and one's moments be the other's."""
    source = tmp_path / "source"
    source.mkdir()
    shutil.copyfile(folders["llama"] / "config.json", source / "config.json")
    torch.save(random_network("llama").state_dict(), source / "pytorch_model.bin")
    for ask in (weights_digest, lambda folder: load(folder, device="cpu")):
        with pytest.raises(ValueError, match=r"holds no model\.safetensors; pytorch_model\.bin is not read"):
            ask(source)
    assert "pytorch_model.bin is not read" in fetched(source, tmp_path / "out")


def test_files_that_are_not_read_do_not_change_the_digest(folders: dict[str, Path], tmp_path: Path) -> None:
    source = copy(folders["llama"], tmp_path / "source")
    (source / "config.json").write_bytes((folders["llama"] / "config.json").read_bytes())
    shutil.copyfile(folders["gpt2"] / "model.safetensors", source / "other.safetensors")
    assert weights_digest(source) == weights_digest(folders["llama"])


def test_fetching_again_leaves_nothing_of_the_source_before(folders: dict[str, Path], tmp_path: Path) -> None:
    bare = copy(folders["llama"], tmp_path / "bare")
    for path in bare.glob("tokenizer*"):
        path.unlink()
    fetch(row(folders["llama"]), tmp_path / "out", mirror=None, offline=True)
    assert load(tmp_path / "out", device="cpu").tokenizer is not None
    fetch(row(bare), tmp_path / "out", mirror=None, offline=True)
    assert load(tmp_path / "out", device="cpu").tokenizer is None


def test_tokens_outside_the_vocabulary_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    source = copy(folders["llama"], tmp_path / "source")
    padded = word_tokenizer()
    padded.add_special_tokens({"pad_token": "[PAD]"})
    padded.save_pretrained(source)
    fetch(row(source), tmp_path / "out", mirror=None, offline=True)  # nothing puts it into a text
    model = load(tmp_path / "out", device="cpu", dtype="float64")
    assert special_tokens(model) == {0, 1}
    assert sample(model, torch.tensor([[0]]), 3, seed=0, top_k=500).shape == (1, 3)
    prompt = tokenise(model.text, "the capital [PAD] is", "Lima")
    expected = rf"token id {VOCAB} \('\[PAD\]'\) is outside the vocabulary of .*; its ids are 0 to {VOCAB - 1}"
    for ask in (lambda: answer_prompts(model, [prompt]), lambda: model.batch([prompt.ids])):
        with pytest.raises(ValueError, match=expected):
            ask()
    with pytest.raises(ValueError, match=f"token id {VOCAB} is outside the vocabulary; its ids are 0 to {VOCAB - 1}"):
        model.transformer.logits(torch.tensor([prompt.ids]))
    assert f"bos {VOCAB} is outside the vocabulary (0 to {VOCAB - 1})" in fetched(
        source, tmp_path / "other", bos=str(VOCAB)
    )


def test_a_start_token_outside_the_vocabulary_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(copy(folders["gpt2"], tmp_path / "source", bos_token_id=50256), device="cpu")
    with pytest.raises(ValueError, match=r"config\.json: bos_token_id 50256 is outside the model's vocabulary"):
        start_token(model)
    with pytest.raises(ValueError, match="names neither"):
        start_token(load(copy(folders["gpt2"], tmp_path / "b", bos_token_id=None, eos_token_id=None), device="cpu"))


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_prompts_fit_the_context_behind_their_prefixes_too(folders: dict[str, Path], name: str) -> None:
    model = load(folders[name], device="cpu", dtype="float64")
    asked = request(model, " ".join(["the"] * 55) + " capital of {} is", "Peru", "Lima")
    assert len(asked.prompt.ids) == 60
    keys_of(model, asked, 1, "subject_last", [(5, 6, 7)])
    with pytest.raises(ValueError, match=r"and its target are 70 tokens behind the longest prefix, .* reads 64"):
        keys_of(model, asked, 1, "subject_last", [tuple(range(2, 12))])
    with pytest.raises(ValueError, match=r"a text of 65 tokens is too long, .* reads 64; shorten it"):
        model.batch([(0,) * 65])
    sample(model, torch.tensor([[0] * 60]), 5, seed=0)
    with pytest.raises(ValueError, match=r"sampled texts of 65 tokens: .* reads 64; ask for shorter ones"):
        sample(model, torch.tensor([[0] * 60]), 6, seed=0)


def test_a_tokenizer_of_vocabulary_and_merges_is_read_by_study_and_command(tmp_path: Path) -> None:
    source = tmp_path / "source"
    random_network("gpt2").save_pretrained(source)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<|endoftext|>"], show_progress=False)
    made.train_from_iterator(["the language of France is French"] * 9, trainer)
    made.model.save(str(source))
    assert sorted(path.name for path in source.glob("*.txt")) == ["merges.txt"]
    fetch(row(source, "gpt2"), tmp_path / "out", mirror=None, offline=True)
    ids = [load_tokenizer(folder).encode("the language of France").ids for folder in (source, tmp_path / "out")]
    assert ids[0] == ids[1] == made.encode("the language of France").ids


def test_saved_weights_are_as_open_as_any_new_file(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["llama"], device="cpu")
    for mask, mode in ((0o022, 0o644), (0o002, 0o664), (0o077, 0o600)):
        with umask(mask):
            save_float32(model, tmp_path / "edited")
            fetch(row(folders["llama"]), tmp_path / "out", mirror=None, offline=True)
        for folder in ("edited", "out"):
            assert (tmp_path / folder / "model.safetensors").stat().st_mode & 0o777 == mode
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "edited").config.model_type == "llama"


def test_second_moments_are_numbers(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["llama"], device="cpu")
    blocks = list(model.transformer.blocks)
    blocks[1] = replace(blocks[1], mlp=replace(blocks[1].mlp, w_in=blocks[1].mlp.w_in * 1e30))
    loud = replace(model, transformer=replace(model.transformer, blocks=tuple(blocks)))
    corpus = iter([torch.arange(12)[None]])
    with pytest.raises(ValueError, match="second moments of layer 1 are not finite; compute in float32 or float64"):
        second_moments(loud, corpus)
    save_moment(tmp_path / "c.safetensors", torch.full((48, 48), torch.nan), {})
    with pytest.raises(ValueError, match="holds numbers that are not finite; estimate the second moments again"):
        load_moment(tmp_path / "c.safetensors", 48)


def test_a_word_tokenizer_has_no_more_words_than_the_tiny_models() -> None:
    assert words().get_vocab_size() == VOCAB
