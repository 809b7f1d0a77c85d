"""Where the library is found: a workflow's own goes before any that is installed, here and in the jobs it starts."""

import os
import shlex
import sys


def prefer(folder: str) -> None:
    """Let this process and those that it starts look for modules in a folder before anywhere else."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])


def check_python(path: str) -> None:
    """Make sure that Snakemake can start jobs with an interpreter: it puts the path into a shell's line as it is.

    Raises:
        ValueError: if the path has spaces, or what else a shell reads otherwise.
    """
    if shlex.quote(path) != path:
        raise ValueError(f"Snakemake runs no jobs by {path!r}, whose path has spaces or the like; put .venv elsewhere")
