"""ROME at many layers and tokens, and at other clamps, on records that no table judges (ROME Fig. 5)."""

from pathlib import Path
from typing import Any

import pandas as pd

from knowcirc.editing.scoring import read_material, read_records
from knowcirc.editing.sweep import CHOSEN, Cell, best, cells, summarise, sweep_record
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load
from knowcirc.resume import parts_of


def main(job: Job) -> None:
    """Write the means by token, layer and clamp; what is done is not done again."""
    params, requested = job.params, job.params.sweep
    records, prefixes = read_records(Path(job.input.records), "sweep_records")
    model = load(Path(job.input.model).parent, **params.load_options, fast=True)
    material = read_material(model, Path(job.input.moments).parent / "layers", prefixes)
    n_layers, clamp = model.transformer.shape.n_layers, float(params.settings["clamp"])
    parts = parts_of(job, job.output.sweep)

    def sweep(places: list[Cell], about: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = []
        for record in progress(records, f"sweep of ROME, {about}: records"):
            key = repr((record.case, places))
            found: Any = parts.get(key)
            if found is None:
                found = sweep_record(model, record, places, params.settings, material)
                parts.put(key, found)
            rows += found
        return rows

    first = cells(n_layers, requested["step"], requested["other_step"], requested["other_tokens"], clamp)
    rows = sweep(first, "layers and tokens")
    layer = best(summarise(pd.DataFrame(rows), job.wildcards.model)).layer
    others = [Cell(CHOSEN, layer, float(each)) for each in requested["clamps"] if each != clamp]
    rows += sweep(others, "clamps") if others else []
    summary = summarise(pd.DataFrame(rows), job.wildcards.model)
    write_table(job.output.sweep, summary.assign(base=summary.clamp == clamp))
    parts.clear()


if __name__ == "__main__":
    run(main, snakemake)
