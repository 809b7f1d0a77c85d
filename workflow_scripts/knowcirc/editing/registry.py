"""The editors by name. A new one is a module with `edit` and its settings, and an entry here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from torch import Tensor

from knowcirc.editing import fine_tuning, memit, rome
from knowcirc.editing.edits import Edit, Matrix, Request, applied
from knowcirc.editing.moments import Moment
from knowcirc.models.loading import LanguageModel

S = TypeVar("S")
Settings = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Material:
    """What an editor may draw on besides the model: second moments of a layer, and sampled prefixes."""

    moment: Callable[[int], Moment]
    prefixes: Callable[[], list[tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Editor:
    """An editor's function, and the defaults of all settings but the layer.

    `fixed` settings make it what it is and are not to be chosen. `moments` says whether it reads second moments,
    `together` whether it takes many requests at once. `depth` is where it works, as a share of the layers, where that
    is not ROME's layer.
    """

    edit: Callable[[LanguageModel, Sequence[Request], dict[str, object], Material], Edit]
    defaults: dict[str, object]
    fixed: dict[str, object]
    moments: bool
    together: bool = False
    depth: float | None = None


CLAMPED_AS_ROME = ("rome", "r-rome")  # a sweep of ROME chooses their clamp, too


def _rome(model: LanguageModel, requests: Sequence[Request], settings: dict[str, object], material: Material) -> Edit:
    chosen = read_settings(rome.RomeSettings, settings)
    return rome.edit(model, requests[0], chosen, material.moment(chosen.layer), material.prefixes())


def _memit(model: LanguageModel, requests: Sequence[Request], settings: dict[str, object], material: Material) -> Edit:
    return memit.edit(
        model, requests, read_settings(memit.MemitSettings, settings), material.moment, material.prefixes()
    )


def _tune(model: LanguageModel, requests: Sequence[Request], settings: dict[str, object], material: Material) -> Edit:
    return fine_tuning.edit(model, requests[0], read_settings(fine_tuning.FineTuneSettings, settings))


VALUE: dict[str, object] = {"steps": 25, "learning_rate": 0.5, "weight_decay": 1e-3, "kl_factor": 0.0625}
ROME = {**VALUE, "clamp": 4.0, "stop_loss": 0.05}
TUNE: dict[str, object] = {"steps": 25, "learning_rate": 5e-4, "stop_loss": 0.01}
EDITORS: dict[str, Editor] = {
    "rome": Editor(_rome, ROME, {"averaged_key": False}, moments=True),
    "r-rome": Editor(_rome, ROME, {"averaged_key": True}, moments=True),
    "memit": Editor(
        _memit,
        {**VALUE, "clamp": 0.75, "stop_loss": 0.05, "span": 3, "moment_weight": 1500.0},
        {},
        moments=True,
        together=True,
    ),
    "ft": Editor(_tune, TUNE, {"loss": "prompt"}, moments=False),
    "ft-l": Editor(_tune, {**TUNE, "bound": 5e-4}, {"loss": "prompt"}, moments=False),
    "ft-m": Editor(_tune, TUNE, {"loss": "target"}, moments=False),
    "attn-edit": Editor(
        _tune,
        {**TUNE, "learning_rate": 1e-3, "bound": 1e-3},
        {"loss": "prompt", "parts": ("query", "key", "value")},
        moments=False,
        depth=33 / 48,  # ROME: layer 33 of GPT-2 XL's 48
    ),
}


def default_layer(editor: str, rome_layer: int, n_layers: int) -> int:
    """Where an editor works in a model in which ROME works at `rome_layer`."""
    depth = EDITORS[editor].depth
    return rome_layer if depth is None else int(depth * n_layers)


def make_edit(editor: str, model: LanguageModel, request: Request, settings: Settings, material: Material) -> Edit:
    """The edit of the named editor; `settings` (a layer at least) override its defaults.

    Raises:
        ValueError: for an unknown editor or setting.
    """
    return make_edits(editor, model, [request], settings, material)


def make_edits(
    editor: str, model: LanguageModel, requests: Sequence[Request], settings: Settings, material: Material
) -> Edit:
    """One edit for all requests: together where the editor can, else one after the other on the edited model.

    The report is that of the last request where they are edited one after the other.

    Raises:
        ValueError: for an unknown editor or setting, or no request.
    """
    if editor not in EDITORS:
        raise ValueError(f"editor {editor!r} is none of {', '.join(EDITORS)}")
    if not requests:
        raise ValueError(f"{editor}: no request; give one or more")
    entry = EDITORS[editor]
    if fixed := sorted(set(settings) & set(entry.fixed)):
        raise ValueError(f"{editor}: {', '.join(fixed)} cannot be chosen; leave it out")
    chosen = entry.defaults | dict(settings) | entry.fixed
    if entry.together:
        return entry.edit(model, requests, chosen, material)
    weights: dict[Matrix, Tensor] = {}
    for request in requests:
        with applied(model, Edit(weights, {})) as current:
            last = entry.edit(current, [request], chosen, material)
        weights |= last.weights
    return Edit(weights, last.report)


def read_settings(kind: type[S], settings: dict[str, object]) -> S:
    """A settings dataclass from plain values.

    Raises:
        ValueError: naming unknown and missing keys.
    """
    known: tuple[Any, ...] = fields(kind)  # type: ignore[arg-type]
    unknown = sorted(set(settings) - {field.name for field in known})
    missing = sorted({field.name for field in known if field.default is MISSING} - set(settings))
    if unknown or missing:
        raise ValueError(f"{kind.__name__}: unknown settings {unknown}, missing settings {missing}")
    return kind(**settings)
