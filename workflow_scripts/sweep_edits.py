"""ROME at many layers and tokens on a record that no table judges; later, clamps at the best layer (ROME Fig. 5)."""

from pathlib import Path

import pandas as pd

from knowcirc.editing.scoring import read_material, read_records
from knowcirc.editing.sweep import CHOSEN, ROW, Cell, best, cells, summarise, sweep_record
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, progress, run, share_of
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write one row per place of one record. `layers` are the rows of all records where the clamps' turn has come."""
    params, requested = job.params, job.params.sweep
    records, prefixes = read_records(Path(job.input.records), "sweep_records")
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes)
    n_layers, clamp = model.transformer.shape.n_layers, float(params.settings["clamp"])
    places = cells(n_layers, requested["step"], requested["other_step"], requested["other_tokens"], clamp)
    if len(job.input.layers):
        swept = pd.concat(map(read_table, job.input.layers), ignore_index=True)
        layer = best(summarise(swept, job.wildcards.model)).layer
        places = [Cell(CHOSEN, layer, float(each)) for each in requested["clamps"] if each != clamp]
    rows = []
    for record in progress(share_of(records, job.wildcards.part, 1), "sweep of ROME: records"):
        rows += sweep_record(model, record, places, params.settings, material)
    write_table(job.output.rows, pd.DataFrame(rows, columns=list(ROW)))


if __name__ == "__main__":
    run(main, snakemake)
