"""Test kernels built by each compiler, once a session."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from petitgen.toolchain import Compiler, choose

KERNELS = Path(__file__).parent / "kernels"
NAMES = sorted(path.stem for path in KERNELS.glob("*.hip"))
COMPILERS = ("clang-19", "ziglang")
Build = Callable[[Path, str, str], bytes]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """build(source, arch, "clang-19" or "ziglang") -> the raw ELF. Nothing is written beside the source."""
    known: dict[tuple[Path, str, str], bytes] = {}

    def made(source: Path, arch: str, compiler: str) -> bytes:
        key = (source, arch, compiler)
        if key not in known:
            clang = Compiler("test", "clang", ("clang-19",), detail="clang-19")
            tool = clang if compiler == "clang-19" else choose(arch, "ziglang").selected
            directory = tmp_path_factory.mktemp(f"{source.stem[:40]}-{arch}-{compiler}-")
            known[key] = tool.compile(Path(shutil.copy(source, directory)), arch)
        return known[key]

    return made
