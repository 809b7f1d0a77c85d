"""How the circuits of facts asked forward and backward overlap, by relation (KC C.3)."""

from pathlib import Path

from knowcirc.behaviours.reuse import reverse_reuse
from knowcirc.behaviours.reverse import read_both_ways, reverse_rows
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import read_shape


def main(job: Job) -> None:
    """Write one row per relation; those with too few known facts are named in the log."""
    params, method = job.params, job.params.method
    files = zip(job.input.answers, job.input.studied, strict=True)
    studies = [read_both_ways(Path(answers), Path(circuits), method) for answers, circuits in files]
    graph = Graph.of(read_shape(Path(job.input.model).parent), params.kv)
    own = load_circuits(Path(job.input.circuits), method)
    rows = reverse_rows(graph, studies, own, params.hits)
    write_table(job.output.both_ways, rows.merge(reverse_reuse(graph, studies), on="relation", validate="1:1"))


if __name__ == "__main__":
    run(main, snakemake)
