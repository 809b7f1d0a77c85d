"""Run notebooks and keep their outputs: `python docs/builder/execute.py docs/tutorial.ipynb`.

They run in a folder of their own, in which `results` and `config` are those of the project. A notebook is written after
every cell, so that a run that was interrupted can be looked at.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
SHARED = ("results", "config")
KEPT = ("tags",)
"""Metadata of cells that are kept; the others say when and where a cell was run."""


def main(paths: list[str]) -> None:
    """Run each notebook in place."""
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as folder:
            for name in SHARED:
                (Path(folder) / name).symlink_to(ROOT / name)
            execute(path, Path(folder))


def execute(path: Path, folder: Path) -> None:
    """Run one notebook in a folder; without limits of time."""
    notebook = nbformat.read(path, as_version=4)

    def keep(**_: object) -> None:
        nbformat.write(tidy(notebook, folder), path)

    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=None, resources=resources, on_cell_executed=keep, record_timing=False).execute()
    keep()


def tidy(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook without what differs from machine to machine: times, folders."""
    for cell in notebook.cells:
        cell.metadata = {name: cell.metadata[name] for name in KEPT if name in cell.metadata}
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output.metadata = {}
            if "text" in output:
                output.text = output.text.replace(f"{folder}/", "").replace(str(Path.home()), "~")
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs, pieces of one stream that follow each other as one."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        if found and output.output_type == "stream" and found[-1].get("name") == output.name:
            found[-1].text += output.text
        else:
            found.append(output)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
