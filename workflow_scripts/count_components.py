"""How much of each relation's circuit lies in the heads and the MLP of each layer (KC Fig. 2)."""

from pathlib import Path

import pandas as pd

from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.circuits.overlap import component_rows
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import read_shape


def main(job: Job) -> None:
    """Write one row per relation, component and layer; `n_relations` is how many relations its category has."""
    survey = read_table(job.input.facts)
    circuits = load_circuits(Path(job.input.circuits[0]), job.params.method)
    graph = Graph.of(read_shape(Path(job.input.model).parent), job.params.kv)
    frames = []
    for category, group in survey.groupby("category"):
        names = [name for name in group.relation.unique() if name in circuits]
        rows = pd.DataFrame(row for name in names for row in component_rows(graph, name, circuits[name].edges))
        rows.insert(0, "category", category)
        frames.append(rows.assign(n_relations=len(names)))
    write_table(job.output.components, pd.concat(frames, ignore_index=True))


if __name__ == "__main__":
    run(main, snakemake)
