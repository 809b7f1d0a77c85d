"""How the circuits of the hops overlap, by composition (KC C.1)."""

from pathlib import Path

from knowcirc.behaviours.hops import hops_rows, read_chains
from knowcirc.behaviours.reuse import hops_reuse
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.overlap import own_circuit
from knowcirc.files import write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import read_shape


def main(job: Job) -> None:
    """Write one row per composition; those with too few chains of known hops are named in the log."""
    params, method = job.params, job.params.method
    files = zip(job.input.answers, job.input.studied, strict=True)
    studies = [read_chains(Path(answers), Path(circuits), method) for answers, circuits in files]
    graph = Graph.of(read_shape(Path(job.input.model).parent), params.kv)
    own = load_circuits(Path(job.input.circuits), method)
    rows = hops_rows(graph, studies, own, params.hits)
    direct = {composition: own_circuit(own, relation) for composition, relation in params.direct.items()}
    write_table(job.output.hops, rows.merge(hops_reuse(graph, studies, direct), on="composition", validate="1:1"))


if __name__ == "__main__":
    run(main, snakemake)
