"""Write down what the study promises, for whoever checks or reads its results."""

from knowcirc.files import write_json
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the models, figures, tables, methods (of every relation; compared) and editors of the study."""
    names = ("models", "figures", "figures_of_all", "tables", "methods", "compared", "editors")
    write_json(job.output.manifest, {name: list(getattr(job.params, name)) for name in names})


if __name__ == "__main__":
    run(main, snakemake)
