"""How often the heads and MLPs of each layer are nodes of a category's circuits (KC Fig. 2)."""

from pathlib import Path

import pandas as pd

from knowcirc.analysis.comparison import edge_share_rows, frequency_rows
from knowcirc.circuits.export import load_circuits
from knowcirc.circuits.graph import Graph
from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run
from knowcirc.models.loading import read_shape


def main(job: Job) -> None:
    """Write the activation frequency, and the share of possible edges, a row a category, component and layer."""
    survey = read_table(job.input.facts)
    circuits = load_circuits(Path(job.input.circuits[0]), job.params.method)
    graph = Graph.of(read_shape(Path(job.input.model).parent), job.params.kv)
    rows = []
    for category, group in survey.groupby("category"):
        chosen = [circuits[name].edges for name in group.relation.unique() if name in circuits]
        frequency = pd.DataFrame(frequency_rows(graph, str(category), chosen))
        shares = pd.DataFrame(edge_share_rows(graph, str(category), chosen))
        rows.append(frequency.merge(shares, on=["category", "component", "layer"]))
    write_table(job.output.frequency, pd.concat(rows, ignore_index=True))


if __name__ == "__main__":
    run(main, snakemake)
