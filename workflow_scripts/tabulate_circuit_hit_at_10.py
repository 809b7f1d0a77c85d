"""What circuits can do alone, by relation (KC Table 1)."""

import pandas as pd

from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = pd.concat([read_table(path) for path in job.input.scores], ignore_index=True)
    table = table.sort_values(["method", "category", "relation"], kind="stable")
    table.insert(0, "model", job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
