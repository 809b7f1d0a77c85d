"""The likeliest next tokens without the showcase's mover head, and without its relation head (KC appendix)."""

from knowcirc.files import read_json, read_table
from knowcirc.job import Job, run
from knowcirc.plots.components import head_ablation_tokens
from knowcirc.plots.style import save


def main(job: Job) -> None:
    """Draw the figure as PNG and PDF."""
    figure = head_ablation_tokens(read_table(job.input.tokens), read_json(job.input.meta), job.wildcards.model)
    save(figure, job.output.png, job.output.pdf)


if __name__ == "__main__":
    run(main, snakemake)
