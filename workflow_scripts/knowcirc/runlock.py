"""Run a command as the only one of its kind in a folder: `python -m knowcirc.runlock FILE COMMAND ...`.

The lock is the kernel's (flock) and goes with the process, so a run that was killed leaves nothing behind to unlock.
"""

import fcntl
import os
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Take the lock and become the command; 1 with a line on stderr if another run holds it."""
    path, command = Path(argv[0]), argv[1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"another run is at work in {Path.cwd()}; wait for it, or stop it\n")
        return 1
    os.set_inheritable(handle.fileno(), True)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
