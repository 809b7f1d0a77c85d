"""hit@1 and hit@10 of the whole model by relation (KC section 4, ROME section 2.2)."""

from knowcirc.facts.survey import known_facts_table
from knowcirc.files import read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    table = known_facts_table(read_table(job.input.facts), job.wildcards.model, job.params.hits)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
