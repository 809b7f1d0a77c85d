"""How long a command takes from the shell to its answer, and what of it are imports."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import say, side_by_side, table

PROMPT = ("--prompt", "The official language of France is", "--subject", "France", "--answer", "French")
IMPORTS = {
    "torch": "import torch",
    "transformers": "import transformers; transformers.AutoModelForCausalLM",
    "what loads a model": "import knowcirc.models.loading",
}


def measure_starting(model: Path, rounds: int) -> dict[str, float]:
    """Seconds of `knowcirc lens` on one prompt, a process each time, and of imports."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lens.csv"
        lens = (sys.executable, "-m", "knowcirc.cli", "lens", str(model), *PROMPT, "--out", str(out), "--quiet")
        calls = {"knowcirc lens, one prompt": partial(_run, *lens)}
        calls |= {f"import: {name}": partial(_run, sys.executable, "-c", code) for name, code in IMPORTS.items()}
        seconds = {name: float(np.median(times)) for name, times in side_by_side(calls, rounds).items()}
    say("From the shell:")
    table(["", "seconds"], [[name, each] for name, each in seconds.items()])
    return seconds


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
