"""A copy of the project in which the papers' study runs on stand-ins, without the network.

    python tests/stand_ins/project.py FOLDER [MODEL ...]
    cd FOLDER && snakemake --configfile config/lre.yaml config/paper.yaml config/stand-ins.yaml

Its tables of models, editors and data sets name the stand-ins, layers that they have, and files without a checksum.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

sys.path.append(str(Path(__file__).resolve().parents[1]))

from copies import copy_workflow
from stand_ins.models import STAND_INS, save
from stand_ins.texts import learned, relations, write_mirror

FACTS = 24  # of a relation, at most
LEAST = 0.95  # of the facts, whose answer must rank first
Row = dict[str, str]


def main() -> None:
    """Make the copy that the command line asks for."""
    folder, *names = sys.argv[1:]
    make(Path(folder), names or list(STAND_INS))


def make(folder: Path, models: Sequence[str]) -> None:
    """Copy the workflow into `folder` beside stand-ins of `models` and a mirror with the files of upstream.

    Raises:
        ValueError: if a stand-in knows too few of its facts.
    """
    folder = folder.resolve()
    copy_workflow(folder)
    facts = relations(FACTS)
    write_mirror(folder / "mirror", facts)
    study = yaml.safe_load(Path(__file__).with_name("study.yaml").read_text("utf-8"))
    used = learned([each for each in facts if each.name in study["relations"]["names"]])
    texts = [f"{prompt} {answer}" for prompt, answer in learned(facts)]
    for name in models:
        known = save(STAND_INS[name], folder / "models" / name, texts, used)
        if known < LEAST:
            raise ValueError(f"the stand-in of {name} says {100 * known:.0f} % of its facts; give it more neurons")
    study |= {"models": list(models), "mirror": str(folder / "mirror")}
    (folder / "config/stand-ins.yaml").write_text(yaml.safe_dump(study), "utf-8")
    _rewrite(folder / "config/models.tsv", _model_row(folder))
    _rewrite(folder / "config/editors.tsv", _editor_row)
    _rewrite(folder / "config/datasets.tsv", lambda row: {**row, "sha256": ""})


def _model_row(folder: Path) -> Callable[[Row], Row]:
    def change(row: Row) -> Row:
        if row["model"] not in STAND_INS:
            return row
        there = {"source": "local", "location": str(folder / "models" / row["model"]), "revision": "", "sha256": ""}
        return {**row, **there, "n_layers": str(STAND_INS[row["model"]].layers), "mem_mb": "4000"}

    return change


def _editor_row(row: Row) -> Row:
    """A layer of the model is the stand-in's at the same share of the depth."""
    if row["setting"] not in ("layer", "span") or row["model"] not in STAND_INS:
        return row
    each = STAND_INS[row["model"]]
    value = max(int(row["value"]) * each.layers // each.of, int(row["setting"] == "span"))
    return {**row, "value": str(value)}


def _rewrite(path: Path, change: Callable[[Row], Row]) -> None:
    """Change the rows of a table whose comments stand first."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    head = [line for line in lines if line.startswith("#")]
    rows = list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t"))
    with path.open("w", newline="", encoding="utf-8") as handle:
        handle.writelines(head)
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        writer.writeheader()
        writer.writerows(map(change, rows))


if __name__ == "__main__":
    main()
