"""The registry of editors: what makes the edit, by which settings, what it draws on, and how it is called in figures.

A new editor is a module with a function like `rome.edit_requests`, and an entry here. Nothing here imports torch: the
workflow and the command line read the registry on every start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import create_model

from knowcirc.editing.settings import (
    AlphaEditSettings,
    EmmetSettings,
    FineTuneSettings,
    InContextSettings,
    LoraSettings,
    MemitSettings,
    NeuronSettings,
    RomeSettings,
    UltraEditSettings,
)
from knowcirc.fields import Row, Section, hint, read, read_rows

UNEDITED = "none"
"""Stands for the model as it is, where editors are named."""
SWEEP = "sweep"
"""What ROME's layer and clamp are from where a sweep has chosen them."""


@dataclass(frozen=True, slots=True)
class Editor:
    """An editor.

    `edit` ("module:function" below `knowcirc`) takes model, requests, settings and material. `settings` is their class;
    `defaults` are those that are the editor's own; `fixed` ones make it what it is and cannot be chosen. `moments` says
    whether it reads second moments, `apart` whether it reads sampled text apart from the request, `together` whether it
    takes many requests at once, `swept` whether a sweep of ROME chooses its clamp, too. `depth` is where it works, as a
    share of the layers, where that is not ROME's layer. `optimises` says whether it makes the request likelier step by
    step; one that does not may miss it. One `in_context` puts text before what the model is asked and leaves its
    weights alone: what reads weights (circuits, the size of a change, a sequence of edits) leaves it out. An `optional`
    one is in a study only where it is named: variants of another one, and those that neither paper has.
    """

    name: str
    label: str
    edit: str
    settings: type[Section]
    defaults: Mapping[str, object] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    moments: bool = False
    apart: bool = False
    together: bool = False
    swept: bool = False
    depth: float | None = None
    optimises: bool = True
    in_context: bool = False
    optional: bool = False

    @property
    def layered(self) -> bool:
        """Whether it works at a layer that is chosen; otherwise it finds the layers itself, or takes all or none."""
        return "layer" in self.settings.model_fields

    @property
    def texts(self) -> bool:
        """Whether it needs the request as text."""
        return self.contexts or self.in_context

    @property
    def contexts(self) -> bool:
        """Whether it reads the request behind sampled text, and holds still what is said of the subject."""
        return "contexts" in self.settings.model_fields

    @property
    def samples(self) -> bool:
        """Whether it reads text that the model samples."""
        return self.contexts or self.moments or self.apart

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that may be chosen, by name: their fields, but for the layer, which stands apart."""
        fields = self.settings.model_fields
        return {name: each for name, each in fields.items() if name not in (*self.fixed, "layer", "token")}

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides its edits beside its function and the settings that can be chosen."""
        fields = self.settings.model_fields
        kept = {name: field.default for name, field in fields.items() if name not in (*self.chosen, "layer")}
        return self.edit, {**kept, **self.fixed}, self.together, self.swept, self.depth

    def default(self, name: str) -> object:
        """A setting's default."""
        return self.defaults[name] if name in self.defaults else self.chosen[name].default


ROME_ITSELF = "rome"
ROME, MEMIT, TUNE = (f"editing.{module}:edit_requests" for module in ("rome", "memit", "fine_tuning"))
UNMERGED: dict[str, object] = {"merged": False}
"""A value of its own for each fact of a batch."""
EDITORS = {
    editor.name: editor
    for editor in (
        Editor(ROME_ITSELF, "ROME", ROME, RomeSettings, fixed={"averaged_key": False}, moments=True, swept=True),
        Editor(
            "rome-easyedit",  # what Knowledge Circuits edited with (KC D.1)
            "ROME, C = I",
            ROME,
            RomeSettings,
            fixed={"averaged_key": False, "second_moments": False},
            swept=True,
            optional=True,
        ),
        Editor("r-rome", "R-ROME", ROME, RomeSettings, fixed={"averaged_key": True}, moments=True, swept=True),
        Editor("memit", "MEMIT", MEMIT, MemitSettings, fixed=UNMERGED, moments=True, together=True),
        Editor(
            "memit-merge",
            "MEMIT-Merge",
            MEMIT,
            MemitSettings,
            fixed={"merged": True},
            moments=True,
            together=True,
            optional=True,
        ),
        Editor(
            "emmet",
            "EMMET",
            "editing.emmet:edit_requests",
            EmmetSettings,
            fixed=UNMERGED,
            moments=True,
            together=True,
            optional=True,
        ),
        Editor(
            "alphaedit",
            "AlphaEdit",
            "editing.alphaedit:edit_requests",
            AlphaEditSettings,
            fixed=UNMERGED,
            moments=True,
            together=True,
            optional=True,
        ),
        Editor(
            "ultraedit",
            "UltraEdit",
            "editing.ultraedit:edit_requests",
            UltraEditSettings,
            apart=True,
            together=True,
            depth=26 / 28,  # the last of the layers that it edits in GPT-J
            optimises=False,
            optional=True,
        ),
        Editor("ft", "FT", TUNE, FineTuneSettings, fixed={"loss": "prompt", "bound": None, "parts": ("mlp_out",)}),
        Editor("ft-l", "FT+L", TUNE, FineTuneSettings, {"bound": 0.0005}, {"loss": "prompt", "parts": ("mlp_out",)}),
        Editor("ft-m", "FT-M", TUNE, FineTuneSettings, fixed={"loss": "target", "bound": None, "parts": ("mlp_out",)}),
        Editor(
            "ft-m-easyedit",  # EasyEdit's bound, which its code applies to FT-M, too
            "FT-M, bounded",
            TUNE,
            FineTuneSettings,
            {"bound": 0.0005},
            {"loss": "target", "parts": ("mlp_out",)},
            optional=True,
        ),
        Editor(
            "attn-edit",
            "AttnEdit",
            TUNE,
            FineTuneSettings,
            {"learning_rate": 0.001, "bound": 0.001},
            {"loss": "prompt", "parts": ("query", "key", "value")},
            depth=33 / 48,  # ROME 3.4: layer 33 of GPT-2 XL's 48
        ),
        Editor(
            "lora",
            "LoRA",
            "editing.lora:edit_requests",
            LoraSettings,
            fixed={"parts": ("query", "value")},
            optional=True,
        ),
        Editor(
            "ike",
            "IKE",
            "editing.in_context:edit_requests",
            InContextSettings,
            together=True,
            optimises=False,
            in_context=True,
            optional=True,
        ),
        Editor("kn", "KN", "editing.knowledge_neurons:edit_requests", NeuronSettings, optimises=False),
    )
}


class EditorRow(Row):
    """A row of `config/editors.tsv`: what a setting of an editor is for one model, and who says so."""

    model: str
    editor: str
    setting: str
    value: float
    source: str


OfModel = dict[str, dict[str, object]]
"""Settings by editor that are one model's own."""


def read_editors(path: Path, models: Mapping[str, int] | None = None) -> dict[str, OfModel]:
    """The table of editors' settings, by model; `models` are those that there are, with their layers (None: any).

    Raises:
        ValueError: naming the row with an unknown model, editor or setting, a value that the setting cannot be, or a
            layer that the model does not have.
    """
    found: dict[str, OfModel] = {}
    for row in read_rows(path, EditorRow):
        if row.editor not in EDITORS:
            raise ValueError(f"{path}: row of {row.model!r}: editor {row.editor!r} is none of {', '.join(EDITORS)}")
        editor, known = EDITORS[row.editor], found.setdefault(row.model, {}).setdefault(row.editor, {})
        follows = editor.swept and editor.name != ROME_ITSELF  # ROME's layer
        layer = () if follows or not editor.layered else ("layer",)
        if row.setting not in (*editor.chosen, *layer):
            raise ValueError(f"{path}: row of {row.model!r}: {row.editor} has no setting {row.setting!r}")
        if models is not None and row.model not in models:
            raise ValueError(f"{path}: {row.model!r} is not in models.tsv{hint(row.model, list(models))}")
        if row.setting in known:
            raise ValueError(f"{path}: {row.setting} of {row.editor} stands twice for {row.model!r}; keep one")
        whole = row.value.is_integer() and row.setting in ("layer", "steps", "span", "rank")
        known[row.setting] = int(row.value) if whole else row.value
        read(
            editor.settings,
            ({"layer": 0} if editor.layered else {}) | known,
            f"{path}: row of {row.model!r}, {row.editor}",
        )
        if models is not None and row.setting == "layer" and row.value >= models[row.model]:
            where = f"{path}: row of {row.model!r}, {row.editor}"
            raise ValueError(f"{where}: layer {row.value:g} is none of the model's, 0 to {models[row.model] - 1}")
    return found


def depth_layers(depths: Sequence[float], n_layers: int) -> list[int]:
    """The layers at shares of the depth.

    >>> depth_layers([0.1, 0.4, 0.99], 30)
    [3, 12, 29]
    """
    return sorted({min(n_layers - 1, int(depth * n_layers)) for depth in depths})


def settings_of(editor: str, of_model: OfModel, given: Mapping[str, object]) -> dict[str, object]:
    """An editor's settings: what is given (None: is not), else the model's own, else its defaults.

    The layer is among them where the model has one for this editor that does not follow from ROME's.

    >>> settings_of("ft-l", {"ft-l": {"bound": 0.002}}, {"steps": 10, "bound": None})
    {'steps': 10, 'learning_rate': 0.0005, 'stop_loss': 0.01, 'bound': 0.002}
    """
    entry, own = EDITORS[editor], of_model.get(editor, {})
    found = {name: own.get(name, entry.default(name)) for name in entry.chosen}
    if "layer" in own and not entry.swept:
        found["layer"] = own["layer"]
    return found | {name: value for name, value in given.items() if value is not None}


def settings_before_sweep(editor: str, of_model: OfModel, given: Mapping[str, object]) -> dict[str, object]:
    """The same in a study, without a clamp that its sweep of ROME is to choose.

    It is to where the model has no layer of ROME's own, and the configuration does not give the editor's clamp.

    >>> [settings_before_sweep("rome", {}, {"clamp": clamp}).get("clamp") for clamp in (None, 3.0)]
    [None, 3.0]
    """
    found = settings_of(editor, of_model, given)
    if EDITORS[editor].swept and "layer" not in of_model.get(ROME_ITSELF, {}) and given.get("clamp") is None:
        del found["clamp"]
    return found


def section_of(editor: Editor) -> type[Section]:
    """The editor's section of a study: each setting is the model's own unless it is given."""
    fields: dict[str, Any] = {}
    for name, each in editor.chosen.items():
        extra = {**(each.json_schema_extra or {}), "otherwise": f"the model's, else {editor.default(name)}"}
        copied = each._copy() if hasattr(each, "_copy") else each
        copied.default, copied.json_schema_extra = None, extra
        fields[name] = (each.annotation | None, copied)
    name = f"{editor.settings.__name__}:{editor.name}"
    return create_model(name, __base__=Section, __doc__=f"Settings of {editor.label}.", **fields)
