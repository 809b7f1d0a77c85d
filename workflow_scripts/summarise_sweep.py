"""The sweep of ROME by token, layer and clamp (ROME Fig. 5)."""

import pandas as pd

from knowcirc.editing.sweep import summarise
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the means over records."""
    frames = [frame for frame in map(read_table, [*job.input.layers, *job.input.clamps]) if len(frame)]
    summary = summarise(pd.concat(frames, ignore_index=True), job.wildcards.model)
    write_table(job.output.sweep, summary.assign(base=summary.clamp == float(job.params.clamp)))


if __name__ == "__main__":
    run(main, snakemake)
