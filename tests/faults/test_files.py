"""Files that are damaged, disks that are full or cannot be written: found, named, and made again or refused."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.micro import MODEL, RESULTS, finish, project, tables

Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    """Another value of one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Damage] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "a bit flipped": flip,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A study that is done, and its tables."""
    folder = project(tmp_path_factory.mktemp("damaged") / "study")
    status, said = finish(folder)
    assert status == 0, said
    return folder, tables(folder)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("facts/known/country_language.parquet", "a bit flipped"),
        *(
            pytest.param(file, damage, marks=pytest.mark.thorough)
            for file in ("facts/known/country_language.parquet", "traces/facts.parquet")
            for damage in DAMAGES
            if (file, damage) != ("facts/known/country_language.parquet", "a bit flipped")
        ),
    ],
)
def test_a_damaged_file_is_named_and_made_again_once_it_is_deleted(
    finished: tuple[Path, dict[str, bytes]], file: str, damage: str
) -> None:
    folder, expected = finished
    path = folder / RESULTS / "smollm2-135m" / file
    before = path.stat()
    DAMAGES[damage](path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does it: no time shows it
    for name in expected:
        (folder / name).unlink()
    gathered = folder / RESULTS / "smollm2-135m/facts/known.parquet"  # of the facts of each relation
    gathered.unlink()
    status, said = finish(folder)
    assert status == 1, said
    assert re.search(
        rf"{re.escape(str(path.name))} is not as it was made \(.*\); delete it, and it is made again", said
    )
    path.unlink()
    status, said = finish(folder)
    assert status == 0, said
    assert tables(folder) == expected


@pytest.mark.thorough
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_named(finished: tuple[Path, dict[str, bytes]], damage: str) -> None:
    folder, expected = finished
    path = folder / MODEL / "model.safetensors"
    kept = path.with_suffix(".kept")
    os.rename(path, kept)
    try:
        shutil.copy2(kept, path)
        DAMAGES[damage](path)
        shutil.rmtree(folder / RESULTS / "smollm2-135m")
        status, said = finish(folder)
        assert status == 1
        assert re.search(rf"{MODEL}.*(is no readable safetensors file|was changed since it was fetched)", said)
    finally:
        os.replace(kept, path)
    status, said = finish(folder)
    assert status == 0, said
    assert tables(folder) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Mounts a disk of its own below a study's results; gives what mounts it again with other options."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    place = tmp_path / "study" / RESULTS / "smollm2-135m"
    mounted = False

    def mount(options: str) -> None:
        nonlocal mounted
        place.mkdir(parents=True, exist_ok=True)
        options = f"remount,{options}" if mounted else options
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted = True

    yield mount
    if mounted:
        subprocess.run(["umount", place], check=True)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [("size=16k", "size=64m", "No space left on device"), ("size=64m,ro", "size=64m,rw", "Read-only file system")],
)
def test_a_run_goes_on_once_the_disk_has_room_or_can_be_written(
    tmp_path: Path,
    finished: tuple[Path, dict[str, bytes]],
    small_disk: Callable[[str], None],
    first: str,
    second: str,
    message: str,
) -> None:
    folder = project(tmp_path / "study")
    small_disk(first)
    status, said = finish(folder)
    assert status == 1
    assert message in said
    small_disk(second)
    status, said = finish(folder)
    assert status == 0, said
    assert tables(folder) == finished[1]
