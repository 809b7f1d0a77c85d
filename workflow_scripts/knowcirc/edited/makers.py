"""What makes a job's edits: its editors by name, each with its settings and material."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from knowcirc.edited.asking import MakeEdit
from knowcirc.editing.edits import Edit, Material, Request
from knowcirc.editing.making import make_edits
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.models.loading import LanguageModel


def makers_of(job: Any, model: LanguageModel) -> dict[str, MakeEdit]:
    """By each editor of the job's settings: what takes requests and gives the edit that makes all of them true."""
    records, prefixes = read_records(Path(job.input.records))
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes, records)
    return {
        editor: partial(_make, model, editor, settings, material)
        for editor, settings in placed_editors(job, model).items()
    }


def _make(
    model: LanguageModel, editor: str, settings: dict[str, object], material: Material, requests: Sequence[Request]
) -> Edit:
    return make_edits(editor, model, requests, settings, material)
