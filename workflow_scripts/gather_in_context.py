"""Put together what demonstrations change in all relations (KC Fig. 5, Table 2)."""

import pandas as pd

from knowcirc.behaviours.in_context import shown_relation
from knowcirc.files import read_json, read_table, write_json, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write the ablation by relation, and the attention on the fact that is chosen, else on the most mended.

    Raises:
        ValueError: if no relation was studied.
    """
    metas = [read_json(path) for path in job.input.metas]
    studied = [i for i, meta in enumerate(metas) if meta]
    if not studied:
        raise ValueError("icl.relations: the model knows too few facts of all of them; name others")
    shown = studied[shown_relation([metas[i] for i in studied])]
    write_table(job.output.ablation, pd.concat([read_table(job.input.rows[i]) for i in studied], ignore_index=True))
    write_table(job.output.attention, read_table(job.input.attention[shown]))
    write_json(job.output.meta, metas[shown])


if __name__ == "__main__":
    run(main, snakemake)
