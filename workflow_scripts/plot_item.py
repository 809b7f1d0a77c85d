"""Draw one figure of the registry of items (knowcirc/items/figures.py), and write the data that it shows beside it."""

from knowcirc.files import write_table
from knowcirc.items.make import call, values_of
from knowcirc.job import Job, run
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Write PNG and PDF, and CSV where the item's data come from here."""
    item, values = job.params.item, values_of(job)
    if item["prepare"]:
        values[item["data"]] = call(item["prepare"], values)
    if item["data"]:
        write_table(job.output.data, values[item["data"]])
    save(call(item["function"], values), job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
