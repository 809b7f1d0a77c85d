"""ROME at many layers and tokens, on records that no table judges (ROME Fig. 5); and the layer that it finds best."""

from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.editing.study import material, read_records
from knowcirc.editing.sweep import best_layer, cells, summarise, sweep_record
from knowcirc.files import Parts, fingerprint, read_json, write_json, write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write the means by token and layer, and the layer; a record that is done is not done again."""
    params, wanted = job.params, job.params.sweep
    records, prefixes = read_records(Path(job.input.records), "sweep_records")
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    stuff = material(model, Path(job.input.moments).parent / "layers", prefixes)
    places = cells(model.transformer.shape.n_layers, wanted["step"], wanted["other_step"], wanted["other_tokens"])
    inputs = [read_json(path) for path in (job.input.model, job.input.moments, job.input.records)]
    parts = Parts(
        job.output.sweep, fingerprint(params.settings, wanted, params.numerics, params.code, prefixes, *inputs)
    )
    rows: list[dict[str, object]] = []
    for record in progress(records, "sweep of ROME: records"):
        found: Any = parts.get(record.case)
        if found is None:
            found = sweep_record(model, record, places, params.settings, stuff)
            parts.put(record.case, found)
        rows += found
    summary = summarise(pd.DataFrame(rows), job.wildcards.model)
    chosen = best_layer(summary) if params.layer == "sweep" else params.table_layer
    write_table(job.output.sweep, summary.assign(chosen=(summary.layer == chosen) & (summary.token == "subject_last")))
    write_json(job.output.layer, {"layer": chosen, "from": params.layer})
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
