"""Kernels for the tests of the virtual GPU, compiled once a session; see harness.py for the process they run in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from petitgen.toolchain import choose

from .harness import ARCHES, KERNELS


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with <arch>.hsaco of kernels.hip; tests in other processes find it by an environment variable."""
    directory = tmp_path_factory.mktemp("kernels")
    for arch in ARCHES:
        _compile(arch, directory / f"{arch}.hsaco")
    os.environ[KERNELS] = str(directory)
    return directory


@pytest.fixture(autouse=True)
def _kernels_where_needed(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("compiler"):
        request.getfixturevalue("kernels")


def _compile(arch: str, to: Path) -> None:
    source = to.with_suffix(".hip")
    source.write_bytes(Path(__file__).with_name("kernels.hip").read_bytes())
    to.write_bytes(choose(arch, "ziglang").selected.compile(source, arch))
