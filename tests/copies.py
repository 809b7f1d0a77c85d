"""Copies of the workflow, for tests that run it elsewhere."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "rules", "config", "profiles", "workflow_scripts")
ROW = "tiny llama hub someone/tiny abc - float32 tokenizer none grouped 3 4 2 1 1000 MIT"
"""A model of the hub in models.tsv, which a mirror's models/someone/tiny stands for."""


def copy_workflow(folder: Path) -> None:
    """Copy the workflow and its library into a folder, without any results."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, ignore=ignored, dirs_exist_ok=True)
        else:
            shutil.copy2(source, folder / name)


def copy_with_tiny_model(folder: Path, study: str) -> None:
    """The same with a tiny Llama (tests/unit/tiny.py) among its models, and a study of it in tiny.yaml."""
    copy_workflow(folder)
    with (folder / "config/models.tsv").open("a", encoding="utf-8") as handle:
        handle.write("\t".join("" if cell == "-" else cell for cell in ROW.split()) + "\n")
    (folder / "tiny.yaml").write_text(
        # its words are few, and most objects share the token of unknown ones
        f"outdir: results-tiny\nmodels: [tiny]\noffline: true\nrelations: {{ on_collision: skip }}\n{study}",
        "utf-8",
    )
