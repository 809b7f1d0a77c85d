"""Put the tables of several jobs into one."""

import pandas as pd

from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write all rows, in the order of the tables; those without rows are of relations that were left out.

    Raises:
        ValueError: if no table has rows.
    """
    for name, output in job.output.items():
        frames = [frame for frame in map(read_table, job.input[name]) if len(frame)]
        if not frames:
            raise ValueError(f"{output}: nothing was measured for any relation; see the logs of the jobs before")
        write_table(output, pd.concat(frames, ignore_index=True))


if __name__ == "__main__":
    run(main, snakemake)
