"""Builds that are killed, and builds that run at the same time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.manifest import Manifest

from .conftest import tree

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
KERNELS = 8

# argv: output, cache, a number that goes into every kernel, so that each version has other bytes everywhere
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {tests!r})
from conftest import ABI, source
from petitgen.build.run import build
from petitgen.spec import load_catalog
model = load_catalog().select((), "gfx942")[0]
instances = [replace(model, name=f"kernel_{{i}}", abi=ABI) for i in range({kernels})]
render = lambda one: source(one, f"v += {{sys.argv[3]}};")
output, cache = map(Path, sys.argv[1:3])
report = build(instances, instances, output, cache=cache, hipcc="ziglang", render=render)
sys.exit(len(report.failed))
"""


def start(output: Path, cache: Path, version: int) -> subprocess.Popen[bytes]:
    script = SCRIPT.format(tests=str(Path(__file__).parent), kernels=KERNELS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(output), str(cache), str(version)],
        env=environment,
        start_new_session=True,
    )


def reference(tmp_path: Path, version: int) -> dict[str, bytes]:
    """What an undisturbed build gives."""
    out = tmp_path / f"reference {version}"
    assert start(out, tmp_path / f"reference cache {version}", version).wait(120) == 0
    return tree(out)


@pytest.mark.parametrize("whole_group", [False, True], ids=["builder", "builder and compilers"])
def test_kill_9(whole_group: bool, tmp_path: Path) -> None:
    """Kill at random moments, the version changing each time; whatever is left, the next build is right.

    `builder` leaves orphaned compilers behind that go on writing for a moment.
    """
    out, cache = tmp_path / "out", tmp_path / "cache"
    begun = time.monotonic()
    want = {version: reference(tmp_path, version) for version in (1, 2)}
    duration = (time.monotonic() - begun) / 2
    chance = random.Random(7)
    killed = 0
    for attempt in range(8):
        # A fresh cache now and then: with a full one there is nothing to compile and the window is short.
        process = start(out, cache / str(attempt // 2), 1 + attempt % 2)
        time.sleep(chance.uniform(0.2, 1.1) * duration)
        if process.poll() is None:
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        check_whole_files(out / "gfx942", want)
    assert killed >= 3, "too few were hit while at work to mean anything"
    for version in (1, 2):
        assert start(out, cache / "last", version).wait(120) == 0
        assert tree(out) == want[version]
        assert not list((out / "gfx942").glob(".build-*")), "temporary directories of the dead are removed"


def check_whole_files(directory: Path, want: dict[int, dict[str, bytes]]) -> None:
    """After a kill every file is whole: byte for byte that of one version or the other."""
    for path in [*directory.glob("*.hip"), *directory.glob("*.hsaco")]:
        assert path.read_bytes() in [files[f"gfx942/{path.name}"] for files in want.values()], path
    if (directory / "manifest.json").exists():
        Manifest.load(directory)


def test_builds_at_the_same_time(tmp_path: Path) -> None:
    """Two builders of one directory take turns; the tree is that of the last one to finish, whole."""
    out = tmp_path / "out"
    want = [reference(tmp_path, version) for version in (1, 2)]
    processes = [start(out, tmp_path / f"cache {version}", version) for version in (1, 2, 1, 2)]
    assert [process.wait(240) for process in processes] == [0, 0, 0, 0]
    assert tree(out) in want


def test_next_build_waits_for_the_lock_not_for_the_dead(tmp_path: Path) -> None:
    """A lock file left behind by a killed build holds up nobody."""
    out = tmp_path / "out"
    process = start(out, tmp_path / "cache", 1)
    while not (out / "gfx942/.lock").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert start(out, tmp_path / "cache", 1).wait(60) == 0
