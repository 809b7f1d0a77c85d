"""Checks and times on a machine with a GPU: `python tests/device/run.py [--device cuda] [--out FILE]`.

1. The device agrees with the CPU, for every method, editor and kind of trace, on small models.
2. On a GPU: a job waits while another holds it; a trace that has too little memory gives the same effects.
3. Times and memory on models in the shapes of SmolLM2-135M and GPT-2 medium, with drawn weights.

It runs from a bare checkout, on whatever torch is there: nothing is installed, no model is fetched. Beside torch and
numpy it needs what `tests/device/packages.txt` lists (`pip install --target FOLDER -r ...`, and FOLDER on PYTHONPATH).
On a GPU it takes under 8 minutes; `--tiny` takes half a minute on a CPU, so that the script itself can be tested there.
Ends with 1 where something does not agree.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow_scripts")]

from device.agreement import compare  # noqa: E402
from device.shapes import SHAPES, SMALL, prompts_of, save  # noqa: E402
from device.timings import measure  # noqa: E402
from knowcirc.models.loading import choose_device, load  # noqa: E402
from knowcirc.tracing.causal import TraceSettings, trace_fact  # noqa: E402

LIMIT, TINY_LIMIT = 40.0, 2.0  # seconds of a part
WAITING = """
import sys
sys.path.insert(0, sys.argv[1])
from knowcirc.models.loading import choose_device
print(choose_device("cuda:0"), flush=True)
"""


def main() -> int:
    """Run the parts and write what they found; 1 where the device does not agree with the CPU."""
    args = parse_arguments()
    device = str(choose_device(args.device))
    torch.set_num_threads(args.threads)
    found: dict[str, object] = {"machine": machine(device), "tiny": args.tiny}
    with tempfile.TemporaryDirectory() as temporary:
        folder, start = Path(temporary), time.perf_counter()
        agreement = compare(folder / "small", device)
        found["agreement"] = agreement
        wrong = [each for each in agreement if not each["agrees"]]
        for each in wrong:
            say(f"does not agree: {each}")
        say(f"agreement: {len(agreement) - len(wrong)} of {len(agreement)} in {time.perf_counter() - start:.0f} s")
        if device != "cpu":
            found["gpu"] = gpu = {"lease": lease_holds(), "little_memory": little_memory(folder, device)}
            wrong += [each for each in gpu.values() if not each["agrees"]]
            say(f"GPU: {gpu}")
        for shape in SMALL if args.tiny else SHAPES:
            times = measure(shape, folder, device, TINY_LIMIT if args.tiny else LIMIT, 3 if args.tiny else 20)
            found[shape.name] = times
            for what, each in times.items():
                say(f"{shape.name}: {what}: {json.dumps(each)}")
            write(args.out, found)
        found["seconds"] = time.perf_counter() - start
    write(args.out, found)
    return int(bool(wrong))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="small models and a short time, to try the script")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results-bench/device.json"), help="(default: %(default)s)")
    return parser.parse_args()


def machine(device: str) -> dict[str, object]:
    """What it ran on."""
    gpu = None if device == "cpu" else torch.cuda.get_device_name(device)
    return {"device": device, "gpu": gpu, "torch": torch.__version__, "python": platform.python_version()}


def lease_holds() -> dict[str, object]:
    """Whether another process waits for the GPU that this one holds."""
    choose_device("cuda:0")
    command = [sys.executable, "-c", WAITING, str(ROOT / "workflow_scripts")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    except subprocess.TimeoutExpired as expired:
        said = (expired.stderr or b"").decode()
        return {"agrees": "waiting" in said, "said": said[-200:]}
    return {"agrees": False, "said": (done.stdout + done.stderr)[-200:]}


def little_memory(folder: Path, device: str) -> dict[str, object]:
    """Whether a trace that runs out of memory ends with the effects of one that does not."""
    model = load(save(SHAPES[0], folder / "little"), device=device)
    prompt, settings = prompts_of(model, 1)[0], TraceSettings(noise=1.0, draws=10, window=10, seed=1)
    whole = trace_fact(model, prompt, settings)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + 200 * 2**20) / total, device)
    try:
        torch.cuda.reset_peak_memory_stats(device)
        short = trace_fact(model, prompt, settings, memory=8 * 2**30)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    apart = max(float(abs(short.effects[kind] - whole.effects[kind]).max()) for kind in whole.effects)
    return {"agrees": apart < 1e-4, "apart": apart}


def write(path: Path, found: dict[str, object]) -> None:
    """What was found so far: a machine may be taken away at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1), "utf-8")


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
