"""Kernels for the tests of the virtual GPU, compiled once a session; see harness.py for the process they run in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from petitgen.toolchain import choose

from .harness import ARCHES, KERNELS


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with <arch>.hsaco of kernels.hip; tests in other processes find it by an environment variable."""
    directory = tmp_path_factory.mktemp("kernels")
    for arch in ARCHES:
        compile_kernels(arch, directory / f"{arch}.hsaco")
    os.environ[KERNELS] = str(directory)
    return directory


def compile_kernels(arch: str, to: Path) -> None:
    source = to.with_suffix(".hip")
    source.write_bytes(Path(__file__).with_name("kernels.hip").read_bytes())
    to.write_bytes(choose(arch, "ziglang").selected.compile(source, arch))
