"""Facts asked forward and backward: what the model says, and how the circuits overlap (KC appendix)."""

from dataclasses import replace
from pathlib import Path

from knowcirc.analysis.reverse import reverse_rows, reverse_wording, study_both_ways
from knowcirc.circuits.finding import CircuitSettings, finder
from knowcirc.circuits.graph import Graph
from knowcirc.facts.relations import READERS
from knowcirc.files import write_table
from knowcirc.job import Job, progress, run
from knowcirc.models.loading import load


def main(job: Job) -> None:
    """Write a row a relation; those with too few known facts are named in the log."""
    params, wanted = job.params, job.params.asked
    relations = {r.name: r for r in (READERS[params.source](Path(path)) for path in job.input.relations)}
    asked = [
        replace(relations[name], reverse_template=wanted["templates"].get(name, relations[name].reverse_template))
        for name in wanted["relations"]
    ]
    for relation in asked:
        reverse_wording(relation)
    model = load(Path(job.input.model).parent, **params.numerics, fast=True)
    graph = Graph.of(model.transformer.shape, params.kv)
    find = finder(graph, CircuitSettings(**params.circuits))
    counts = {"most": wanted["facts"], "n_circuits": wanted["circuits"], "seed": params.seed}
    studies = [study_both_ways(model, find, relation, **counts) for relation in progress(asked, "reverse relations")]
    write_table(job.output.both_ways, reverse_rows(graph, studies, params.hits))


if __name__ == "__main__":
    run(main, snakemake)
