"""Where the study edits: ROME's layer and clamp from editors.tsv, or the sweep's best where no layer stands there.

A clamp that the configuration gives goes before both.
"""

from knowcirc.editing.editors import SWEEP
from knowcirc.editing.sweep import best
from knowcirc.files import read_table, write_json
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the layer and the clamp, and which of the two they are from."""
    layer, clamp, source = job.params.layer, job.params.clamp, "editors.tsv"
    if layer is None:
        cell = best(read_table(job.input.sweep[0]))
        layer, source = cell.layer, SWEEP
        clamp = cell.clamp if clamp is None else clamp
    write_json(job.output.edit_layer, {"layer": layer, "clamp": clamp, "from": source})


if __name__ == "__main__":
    run(main, snakemake)
