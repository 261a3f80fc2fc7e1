"""Test kernels built by each compiler, once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from petitgen.toolchain import Compiler, choose

KERNELS = Path(__file__).parent / "kernels"
NAMES = sorted(path.stem for path in KERNELS.glob("*.hip"))
COMPILERS = ("clang-19", "ziglang")
Build = Callable[[Path, str, str], bytes]


@pytest.fixture(scope="session")
def build() -> Build:
    """build(source, arch, "clang-19" or "ziglang") -> the raw ELF."""
    known: dict[tuple[Path, str, str], bytes] = {}

    def made(source: Path, arch: str, compiler: str) -> bytes:
        key = (source, arch, compiler)
        if key not in known:
            clang = Compiler("test", "clang", ("clang-19",), detail="clang-19")
            tool = clang if compiler == "clang-19" else choose(arch, "ziglang").selected
            known[key] = tool.compile(source, arch)
        return known[key]

    return made
