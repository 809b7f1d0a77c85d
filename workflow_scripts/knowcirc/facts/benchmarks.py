"""The registry of data sets about what follows from an edit: the row of datasets.tsv, and what reads the file.

A new one is a function that reads a file as cases (`ripples.py`), and an entry here. Nothing here imports torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set.

    `dataset` is its row in `config/datasets.tsv`; `read` ("module:function" below `knowcirc`) takes the file, how many
    cases are wanted (the first that can be edited) and its name, and gives them as a list.
    """

    name: str
    dataset: str
    read: str


MQUAKE, RIPPLE = "facts.mquake:read_cases", "facts.rippleedits:read_cases"
BENCHMARKS = {
    each.name: each
    for each in (
        Benchmark("mquake-cf-3k", "mquake/cf_3k", MQUAKE),
        Benchmark("mquake-cf-3k-v2", "mquake/cf_3k_v2", MQUAKE),
        Benchmark("mquake-t", "mquake/t", MQUAKE),
        Benchmark("ripple-recent", "ripple_edits/recent", RIPPLE),
        Benchmark("ripple-random", "ripple_edits/random", RIPPLE),
        Benchmark("ripple-popular", "ripple_edits/popular", RIPPLE),
    )
}
