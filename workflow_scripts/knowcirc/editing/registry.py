"""The editors by name. A new one is a module with `edit` and its settings, and an entry here."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

from knowcirc.editing import fine_tuning, rome
from knowcirc.editing.edits import Edit, Request
from knowcirc.editing.moments import Moment
from knowcirc.models.loading import LanguageModel

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Material:
    """What an editor may draw on besides the model: second moments of a layer, and sampled prefixes."""

    moment: Callable[[int], Moment]
    prefixes: Callable[[], list[tuple[int, ...]]]


def _rome(model: LanguageModel, request: Request, settings: dict[str, object], material: Material) -> Edit:
    chosen = read_settings(rome.RomeSettings, settings)
    return rome.edit(model, request, chosen, material.moment(chosen.layer), material.prefixes())


def _ft_m(model: LanguageModel, request: Request, settings: dict[str, object], material: Material) -> Edit:
    return fine_tuning.edit(model, request, read_settings(fine_tuning.FineTuneSettings, settings))


Editor = Callable[[LanguageModel, Request, dict[str, object], Material], Edit]
EDITORS: dict[str, Editor] = {"rome": _rome, "ft-m": _ft_m}
DEFAULTS: dict[str, dict[str, object]] = {
    "rome": {
        "steps": 25,
        "learning_rate": 0.5,
        "weight_decay": 1e-3,
        "kl_factor": 0.0625,
        "clamp": 4.0,
        "stop_loss": 0.05,
    },
    "ft-m": {"steps": 25, "learning_rate": 5e-4, "stop_loss": 0.01},
}


def make_edit(
    editor: str, model: LanguageModel, request: Request, settings: dict[str, object], material: Material
) -> Edit:
    """The edit of the named editor; `settings` (a layer at least) override its defaults.

    Raises:
        ValueError: for an unknown editor or setting.
    """
    if editor not in EDITORS:
        raise ValueError(f"editor {editor!r} is none of {', '.join(EDITORS)}")
    return EDITORS[editor](model, request, DEFAULTS[editor] | settings, material)


def read_settings(kind: type[S], settings: dict[str, object]) -> S:
    """A settings dataclass from plain values.

    Raises:
        ValueError: naming unknown and missing keys.
    """
    wanted = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if wanted != set(settings):
        unknown, missing = sorted(set(settings) - wanted), sorted(wanted - set(settings))
        raise ValueError(f"{kind.__name__}: unknown settings {unknown}, missing settings {missing}")
    return kind(**settings)
