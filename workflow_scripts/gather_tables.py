"""Put the tables of several jobs into one."""

import pandas as pd

from knowcirc.files import read_table, write_table
from knowcirc.job import Job, run


def main(job: Job) -> None:
    """Write all rows, in the order of the tables. A table of one column and no rows is of what was left out.

    Raises:
        ValueError: if all tables are.
    """
    for name, output in job.output.items():
        frames = [frame for frame in map(read_table, job.input[name]) if len(frame) or len(frame.columns) > 1]
        if not frames:
            raise ValueError(f"{output}: nothing was measured for any relation; see the logs of the jobs before")
        filled = [frame for frame in frames if len(frame)]
        write_table(output, pd.concat(filled, ignore_index=True) if filled else frames[0])


if __name__ == "__main__":
    run(main, snakemake)
