"""What `snakemake --cache` keeps of one study for another: models, known facts, second moments."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from copies import copy_with_tiny_model
from knowcirc.provenance import record_of

TARGETS = ["models/tiny/provenance.json", "tiny/moments/moments.json", "tiny/facts/known/country_language.json"]


def project(folder: Path, tokens: int = 400) -> Path:
    """A copy of the workflow with a study of a tiny model of the hub."""
    copy_with_tiny_model(folder, f"moments: {{ tokens: {tokens}, length: 20, batch: 10 }}\n")
    return folder


def run(folder: Path, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "workflow_scripts"),
        "SNAKEMAKE_OUTPUT_CACHE": str(cache),
    }
    targets = [f"results-tiny/{path}" for path in TARGETS]
    command = [sys.executable, "-m", "snakemake", "--configfile", "tiny.yaml", *arguments, "--", *targets]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


def worked(folder: Path) -> list[str]:
    """The targets whose jobs ran: these have written beside them where they come from."""
    return [name for name in TARGETS if record_of(folder / "results-tiny" / name).is_file()]


def test_a_second_study_takes_what_the_first_has_made(tmp_path: Path, folders: dict[str, Path]) -> None:
    (cache := tmp_path / "cache").mkdir()
    first, second = (project(tmp_path / name) for name in ("first", "second"))
    other = project(tmp_path / "other", tokens=600)
    mirror = tmp_path / "mirror"
    shutil.copytree(folders["llama"], mirror / "models/someone/tiny")
    asked = ["--cache", "--config", f"mirror={mirror}"]
    done = run(first, *asked, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert worked(first) == TARGETS
    (mirror / "models/someone").rename(tmp_path / "away")  # the model cannot be had again
    done = run(second, *asked, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert worked(second) == []
    apart = ("logs", ".provenance")  # of the jobs, not of what they make
    made = [path.relative_to(first) for path in (first / "results-tiny").rglob("*") if path.is_file()]
    made = [path for path in made if not set(apart) & set(path.parts) and not path.name.startswith(".")]
    assert {"model.safetensors", "tokenizer.json", "moments.json"} <= {path.name for path in made}
    made.append(Path("results-tiny/tiny/moments/layers/layer_2.safetensors"))  # in a folder that is a link to the cache
    for path in made:
        assert (second / path).read_bytes() == (first / path).read_bytes(), path
    done = run(other, *asked, cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert worked(other) == TARGETS[1:2]  # only the moments are others
    table = (
        second / "config/costs.tsv"
    )  # a changed time limit runs nothing anew, and neither does a study without the cache
    before = table.read_text("utf-8")
    after = re.sub(r"^find_known_facts\t\t\t[\d.]+\t", "find_known_facts\t\t\t999999\t", before, flags=re.MULTILINE)
    assert after != before
    table.write_text(after, "utf-8")
    for arguments in (asked, asked[1:]):
        done = run(second, "-n", *arguments, "time_factor=9.0", cache=cache)
        assert "Nothing to be done" in done.stdout + done.stderr
    forced = run(second, "-n", "-F", *asked, "time_factor=9.0", cache=cache)
    assert "runtime=1112" in forced.stdout + forced.stderr  # 9 x (3 + 999999 / 135) seconds, in minutes


def test_without_a_cache_nothing_is_said_of_one_and_jobs_are_timed(tmp_path: Path) -> None:
    plain = project(tmp_path / "plain")
    (cache := tmp_path / "cache").mkdir()
    done = run(plain, "-n", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "eligible for caching" not in done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("benchmark: ") == 3
    assert (done.stdout + done.stderr).count("model.safetensors") == 0
    kept = run(plain, "-n", "--cache", cache=cache)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert "benchmark: " not in kept.stdout + kept.stderr


def test_a_model_of_a_folder_is_not_kept_for_other_studies(tmp_path: Path) -> None:
    folder = project(tmp_path / "folder")
    table = folder / "config/models.tsv"
    table.write_text(table.read_text("utf-8").replace("\thub\tsomeone/tiny\t", "\tlocal\tsomeone/tiny\t"), "utf-8")
    refused = run(folder, "-n", "--cache", cache=tmp_path)
    assert refused.returncode == 1
    assert "--cache: tiny: what a folder holds may change" in refused.stdout + refused.stderr


@pytest.mark.parametrize("corpus", [None, "text.txt"])
def test_the_text_of_moments_is_an_input(tmp_path: Path, corpus: str | None) -> None:
    folder = project(tmp_path / "text")
    (folder / "text.txt").write_text("Rome\n", "utf-8")
    if corpus is not None:
        study = (folder / "tiny.yaml").read_text("utf-8")
        (folder / "tiny.yaml").write_text(study.replace("moments: {", f"moments: {{ corpus: {corpus},"), "utf-8")
    done = run(folder, "-n", cache=tmp_path)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    expected = "results-tiny/models/tiny/provenance.json" + (f", {corpus}" if corpus else "")
    assert f"rule estimate_moments:\n    input: {expected}\n" in text
