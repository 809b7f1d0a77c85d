"""Run a command as the only one of its kind in a folder: `python -m knowcirc.runlock FILE COMMAND ...`.

The lock is the kernel's (flock) and goes with the process, so a run that was killed leaves nothing behind to unlock.
The workflow takes the same lock when it starts (`Snakefile`), so that `make` and plain `snakemake` see each other.
"""

import fcntl
import os
import sys
from pathlib import Path
from typing import IO

FILE = Path(".snakemake") / "run.lock"
"""The lock of a folder in which Snakemake works."""
HOLDER = "KNOWCIRC_RUN_LOCK"
"""Says to the command which lock was taken for it."""
_held: list[IO[str]] = []  # open as long as this process lives


def take(path: Path = FILE) -> None:
    """Hold the lock until this process ends; nothing is to do where it was taken for this process already.

    Where the file system has no locks, a warning says so, and the run goes on without.

    Raises:
        ValueError: if another run holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        if os.environ.get(HOLDER) != str(path.resolve()):
            raise ValueError(f"another run is at work in {Path.cwd()}; wait for it, or stop it") from None
    except OSError as error:
        handle.close()
        sys.stderr.write(f"{path} cannot be locked ({error.strerror}); see to it that no other run is at work here\n")
    else:
        _held.append(handle)


def main(argv: list[str]) -> int:
    """Take the lock and become the command; 1 with a line on stderr if another run holds it."""
    path, command = Path(argv[0]), argv[1:]
    try:
        take(path)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for handle in _held:
        os.set_inheritable(handle.fileno(), True)
    os.environ[HOLDER] = str(path.resolve())
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
