"""Settings of where and how a study is run: no result depends on them beyond rounding."""

from typing import Annotated

from pydantic import Field

from knowcirc.fields import Count, Folder, Positive, Section, setting


class Running(Section):
    """Where and how a study is run."""

    outdir: Folder = setting("results", "the folder of everything that the study makes")
    device: Annotated[str, Field(pattern="^(auto|cpu|cuda(:[0-9]+)?)$")] = setting(
        "auto", "auto, cpu or cuda; results do not depend on it beyond rounding"
    )
    jobs_per_gpu: Count = setting(
        1, "jobs that share a GPU; with more, also let as many run: `--resources gpu=N` (GPUs x jobs_per_gpu)"
    )
    image: str = setting(
        "knowcirc.sif",
        "what jobs run in with `--sdm apptainer`: a file made of the Dockerfile, or "
        "docker://ghcr.io/OWNER/knowcirc:VERSION (.github/workflows/image.yml publishes it for the repository's owner)",
    )
    mirror: str | None = setting(
        None,
        "a folder laid out as the upstream data, used instead of the network (models that it lacks are downloaded)",
    )
    offline: bool = setting(False, "true: never touch the network")
    time_factor: Positive = setting(
        3.0,
        "on a cluster, a job's time limit is so many times what config/costs.tsv expects, measured on slow CPU cores",
    )
