"""Shared fixtures: tiny random models whose every part matters, saved as folders and loaded by the library.

The import hook makes every annotated shape and type of the library a check at run time. It must stand before the
first import of knowcirc.
"""

from pathlib import Path

from jaxtyping import install_import_hook

SOURCES = Path(__file__).resolve().parents[1] / "workflow_scripts"
MODULES = {path: ".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in SOURCES.glob("knowcirc/**/*.py")}
# Commands import types of heavy libraries for the type checker alone, and such names beartype cannot resolve.
HOOKED = [name for path, name in MODULES.items() if "if TYPE_CHECKING:" not in path.read_text("utf-8")]
install_import_hook(HOOKED, "beartype.beartype")

from collections import Counter  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import cache  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from typing import Any  # noqa: E402
from zlib import crc32  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

from knowcirc.configuration.study import Study  # noqa: E402
from knowcirc.models.families import FAMILIES  # noqa: E402
from knowcirc.models.loading import LanguageModel, load  # noqa: E402
from unit.tiny import FIRST, MODELS, random_network, word_tokenizer  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
Loader = Callable[..., LanguageModel]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the tests that kill a study, and of how many models tests run on."""
    parser.addoption(
        "--all-faults", action="store_true", help="tests/faults: every damage, and full disks; minutes each"
    )
    parser.addoption("--all-models", action="store_true", help="every test on every tiny model; half an hour")
    parser.addoption("--cases", type=int, help="of each test so many cases at most, the first; default: all")
    parser.addoption("--kills", type=int, default=3, help="how often tests/faults kills a study (default: 3)")
    parser.addoption("--seed", type=int, default=0, help="of the moments at which it does (default: 0)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the longer faults to `make test-faults`, and cases to the first models where there are many."""
    leave_cases(config, items)
    leave_others(config, items)
    if not config.getoption("all_faults"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="a thorough test of faults: make test-faults"))


def leave_cases(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test marked `many(CASES, one_in=N)`, run one in N of the models beyond the first, in about so many cases.

    Which models and cases a test meets goes by its name and the model's place, so that all meet some.
    """
    if config.getoption("all_models"):
        return
    left, seen = [], Counter[tuple[str, str]]()
    groups = [(item, *_group(item)) for item in items]
    sizes = Counter((test, name) for _, test, name in groups)
    for item, test, name in groups:
        mark, place = item.get_closest_marker("many"), seen[test, name]
        seen[test, name] += 1
        if mark is None or name not in MODELS or name in FIRST:
            continue
        turn, stride = MODELS.index(name), max(1, sizes[test, name] // mark.args[0])
        another = (crc32(test.rpartition("::")[2].encode()) + turn) % mark.kwargs.get("one_in", 1)
        if another or place % stride != turn % stride:
            left.append(item)
    leave(config, items, left)


def leave_others(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the first cases of each test alone, as many as `--cases` says."""
    if (most := config.getoption("cases")) is None:
        return
    left, seen = [], Counter[str]()
    for item in items:
        test, _ = _group(item)
        seen[test] += 1
        if seen[test] > most:
            left.append(item)
    leave(config, items, left)


def leave(config: pytest.Config, items: list[pytest.Item], left: list[pytest.Item]) -> None:
    """Take some of the tests out, and say so."""
    if left:
        gone = set(map(id, left))
        items[:] = [item for item in items if id(item) not in gone]
        config.hook.pytest_deselected(items=left)


def _group(item: pytest.Item) -> tuple[str, str]:
    """A test without its cases, and the tiny model that it runs on."""
    case = getattr(item, "callspec", None)
    return item.nodeid.partition("[")[0], "" if case is None else str(case.params.get("name", ""))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is found out about models is kept apart from the user's own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved folder, with tokenizer, for each tiny model."""
    made = {name: tmp_path_factory.mktemp("models") / name for name in MODELS}
    for name, folder in made.items():
        random_network(name).save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
    return made


@pytest.fixture(scope="session")
def load_tiny(folders: dict[str, Path]) -> Loader:
    """Loads a tiny model by name, once for each setting: for tests that leave the weights as they are."""

    @cache
    def loader(name: str, dtype: str = "float64", processing: str = "none") -> LanguageModel:
        return load(folders[name], device="cpu", dtype=dtype, processing=processing)

    return loader


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    """Each tiny model's name in turn."""
    return str(request.param)


@pytest.fixture
def model(name: str, load_tiny: Loader, exact_networks: None) -> LanguageModel:
    """Each tiny model in turn, in double precision; its weights must be left as they are."""
    return load_tiny(name)


@pytest.fixture
def editable(name: str, folders: dict[str, Path], exact_networks: None) -> LanguageModel:
    """Each tiny model in turn, in double precision, the test's own: its weights may be changed."""
    return load(folders[name], device="cpu", dtype="float64")


@pytest.fixture
def config() -> dict[str, Any]:
    """The default study with every setting in it."""
    given = yaml.safe_load((Path(__file__).parents[1] / "config/config.yaml").read_text("utf-8"))
    return Study.model_validate(given).model_dump(by_alias=True)


@pytest.fixture
def exact_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Hugging Face's models compute in double precision where their code says float32 (RMSNorm and softmax)."""
    exact = SimpleNamespace(**{**vars(torch), "float32": torch.float64})
    for family in FAMILIES:
        monkeypatch.setattr(f"transformers.models.{family}.modeling_{family}.torch", exact)
    norm = "transformers.models.gemma2.modeling_gemma2.Gemma2RMSNorm.forward"
    monkeypatch.setattr(norm, lambda self, x: self._norm(x) * (1.0 + self.weight))


@pytest.fixture(scope="session")
def real_model_folder() -> Path:
    """The default model's folder, where a study has fetched it."""
    for results in ("results", "results-test"):
        folder = ROOT / results / "models" / "smollm2-135m"
        if (folder / "provenance.json").is_file():
            return folder
    pytest.skip("no results/models/smollm2-135m nor results-test/models/smollm2-135m: run `snakemake fetch_model`")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny products are slower on several threads, and sums would depend on their number."""
    torch.set_num_threads(1)
