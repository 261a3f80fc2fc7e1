"""Compilers made of a few lines of shell, to test how the real ones are found and called."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

MakeHipcc = Callable[..., Path]

SCRIPT = """#!/bin/sh
case "$*" in *--version*) printf '%s\\n' 'HIP version: 9.1' '{version}'; exit 0;; esac
printf '%s\\n' "$@" > "{log}.arguments"
env > "{log}.environment"
{extra}
while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
cp "{elf}" "$out"
"""


@pytest.fixture
def elf() -> bytes:
    """The first 64 bytes of an ELF for AMDGPU (machine 224): enough for a compiler to be believed."""
    return struct.pack("<4sBBBBB7xHH44x", b"\x7fELF", 2, 1, 1, 64, 3, 3, 224)


@pytest.fixture
def make_hipcc(tmp_path: Path, elf: bytes) -> MakeHipcc:
    """make_hipcc("rocm/bin/hipcc", extra="...") -> its path. It writes argv and environment beside itself."""
    (tmp_path / "object.elf").write_bytes(elf)

    def make(where: str, extra: str = "", version: str = "AMD clang version 99.0.0 (somewhere 1234)") -> Path:
        path = tmp_path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        text = SCRIPT.format(version=version, log=path, extra=extra, elf=tmp_path / "object.elf")
        path.write_text(text)
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing names a compiler: PATH, which is returned, has cp and env only."""
    path = tmp_path / "path"
    path.mkdir()
    for program in ("cp", "env"):
        os.symlink(shutil.which(program) or "", path / program)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HIPCC", "ROCM_PATH", "HIP_CLANG_PATH"):
        monkeypatch.delenv(name, raising=False)
    return path
