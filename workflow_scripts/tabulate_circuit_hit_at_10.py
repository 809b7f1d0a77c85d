"""What circuits can do alone, by relation and over relations (KC Table 1)."""

import pandas as pd

from knowcirc.circuits.study import against_random, summaries
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX: rows of relations, then their means, then the showcase's one fact."""
    scores = read_table(job.input.scores)
    order = list(dict.fromkeys(scores["method"]))
    scores["place"] = scores["method"].map(order.index)
    scores = scores.sort_values(["place", "category", "relation"], kind="stable").drop(columns="place")
    table = pd.concat([scores, summaries(scores), read_table(job.input.showcase)], ignore_index=True)
    for name, found in (("hit_at_10", "d_test_circuit"), ("faithfulness", "faithfulness")):
        random = found.replace("circuit", "random") if found.startswith("d_test") else f"{found}_random"
        table[f"{name}_beats_random"] = against_random(table, found, random)
    table.insert(0, "model", job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
