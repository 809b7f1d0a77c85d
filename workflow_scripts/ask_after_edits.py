"""Questions in two hops after the first hop was edited, of one composition (KC section 5)."""

from functools import partial
from pathlib import Path

import pandas as pd

from knowcirc.behaviours.hops import Composition
from knowcirc.edited.portability import COLUMNS, MakeEdit, draw_cases, study_case
from knowcirc.editing.edits import Edit, Request
from knowcirc.editing.making import make_edit
from knowcirc.editing.scoring import placed_editors, read_material, read_records
from knowcirc.facts.relations import read_relations
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.reading.heads import Thresholds


def main(job: Job) -> None:
    """Write one row per chain and editor; no row where the model answers no chain of the composition."""
    params = job.params
    composition = Composition(**params.composition)
    relations = read_relations(params.source, job.input.relations)
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    _, prefixes = read_records(Path(job.input.records))
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes)

    def make(settings: dict[str, object], editor: str, requested: Request) -> Edit:
        return make_edit(editor, model, requested, settings, material)

    editors: dict[str, MakeEdit] = {
        editor: partial(make, settings, editor) for editor, settings in placed_editors(job, model).items()
    }
    pair = relations[composition.first], relations[composition.second]
    cases = draw_cases(model, composition, pair, params.chains, params.seed)
    rows = [
        {"composition": composition.name, **row}
        for case in progress(cases, f"edited first hops of {composition.name}: chains")
        for row in study_case(model, case, editors, Thresholds(**params.heads))
    ]
    write_table(job.output.rows, pd.DataFrame(rows, columns=list(COLUMNS)))


if __name__ == "__main__":
    run(main, snakemake)
