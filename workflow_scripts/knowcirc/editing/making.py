"""Making edits by an editor's name: its settings are checked, and requests that it cannot take together go in turn."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from knowcirc.editing.editors import EDITORS
from knowcirc.editing.edits import Edit, Material, Matrix, Request, applied
from knowcirc.fields import read
from knowcirc.functions import function_of
from knowcirc.models.loading import LanguageModel

Settings = Mapping[str, object]


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

    The report is that of the last request where they are edited one after the other. For edits in sequence, call this
    under `applied` of those before, with `material.after` them.

    Raises:
        ValueError: for an unknown editor or setting, no request, or an edit that is not finite.
    """
    if editor not in EDITORS:
        raise ValueError(f"editor {editor!r} is none of {', '.join(EDITORS)}")
    if not requests:
        raise ValueError(f"{editor}: no request; give one or more")
    entry = EDITORS[editor]
    if fixed := sorted(set(settings) & set(entry.fixed)):
        raise ValueError(f"{editor}: {', '.join(fixed)} cannot be chosen; leave it out")
    chosen = read(entry.settings, {**entry.defaults, **settings, **entry.fixed}, editor)
    edit = function_of(entry.edit)
    if entry.together:
        together: Edit = edit(model, requests, chosen, material)
        return _finite(editor, together)
    weights: dict[Matrix, Tensor] = {}
    for request in requests:
        with applied(model, Edit(weights, {})) as current:
            last: Edit = _finite(editor, edit(current, [request], chosen, material))
        weights |= last.weights
    return Edit(weights, last.report)


def _finite(editor: str, edit: Edit) -> Edit:
    """The edit, whose weights must be numbers.

    Raises:
        ValueError: if one has overflown.
    """
    if not all(bool(weight.isfinite().all()) for weight in edit.weights.values()):
        raise ValueError(
            f"{editor} gave weights that are not finite; lower its learning rate, take second moments of more tokens, "
            "or compute in float64"
        )
    return edit
