"""Markers that skip by themselves: a test says what it needs, this file finds out whether it is there."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

# Matrices here are small, and processes as many as cores: threads of BLAS and torch would only wait for each other. numpy
# reads this when it is imported.
for _threads in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

LLVM_PROGRAMS = ("clang-19", "ld.lld-19", "llvm-mc-19", "llvm-objdump-19")


def _missing(marker: str) -> str | None:
    """Why a test with this marker cannot run here, or None."""
    if marker == "llvm":
        absent = [name for name in LLVM_PROGRAMS if shutil.which(name) is None]
        return f"not on PATH: {', '.join(absent)} (apt install clang-19 lld-19 llvm-19)" if absent else None
    if marker == "mmasim":
        absent = [name for name in ("mmasim", "torch") if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(absent)} (pip install 'petitgen[oracle]')" if absent else None
    if marker == "compiler":
        from petitgen.errors import ToolchainError
        from petitgen.toolchain import choose

        try:
            choose("gfx942")
        except ToolchainError as error:
            return str(error)
        return None
    if marker == "gpu" and not Path("/dev/kfd").exists():
        return "no AMD GPU: /dev/kfd is not there"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run; PETITGEN_REQUIRE=llvm,mmasim: never these."""
    required = set(filter(None, os.environ.get("PETITGEN_REQUIRE", "").split(",")))
    reasons: dict[str, str | None] = {}
    for item in items:
        for marker in item.iter_markers():
            if marker.name in required:
                continue
            if marker.name not in reasons:
                reasons[marker.name] = _missing(marker.name)
            if reasons[marker.name]:
                item.add_marker(pytest.mark.skip(reason=f"{marker.name}: {reasons[marker.name]}"))
