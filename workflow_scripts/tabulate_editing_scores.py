"""The editors' scores (ROME Tables 4 and 5)."""

from knowcirc.editing.registry import default_layer
from knowcirc.editing.study import UNEDITED, editing_scores
from knowcirc.files import read_json, read_table, write_latex, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the table as CSV and LaTeX."""
    frames = dict(zip(job.params.editors, map(read_table, job.input.scores), strict=True))
    rome_layer = int(str(read_json(job.input.place)["layer"]))
    layers = {
        editor: default_layer(editor, rome_layer, job.params.n_layers)
        for editor in job.params.editors
        if editor != UNEDITED
    }
    table = editing_scores(frames, layers, job.wildcards.model)
    write_table(job.output.csv, table)
    write_latex(job.output.tex, table)


if __name__ == "__main__":
    run(main, snakemake)
