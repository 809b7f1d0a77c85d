"""Facts in two hops: what the model says, and how the circuits of the hops overlap (KC appendix)."""

from pathlib import Path

from knowcirc.analysis.hops import Composition, hops_rows, study_chains
from knowcirc.circuits.finding import CircuitSettings, finder
from knowcirc.circuits.graph import Graph
from knowcirc.facts.relations import READERS
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write a row a composition; those with too few chains of known hops are named in the log."""
    params = job.params
    relations = {r.name: r for r in (READERS[params.source](Path(path)) for path in job.input.relations)}
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    find = finder(graph, CircuitSettings(**params.circuits))
    counts = {"most": params.hops["facts"], "n_circuits": params.hops["circuits"], "seed": params.seed}
    studies = []
    for each in progress(params.hops["compositions"], "hops: compositions"):
        composition = Composition(**each)
        pair = relations[composition.first], relations[composition.second]
        studies.append(study_chains(model, find, composition, pair, **counts))
    write_table(job.output.hops, hops_rows(graph, studies, params.hits))


if __name__ == "__main__":
    run(main, snakemake)
