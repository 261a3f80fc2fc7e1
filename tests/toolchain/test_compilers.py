"""The real routes, each compiling a real kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from petitgen.toolchain import choose
from petitgen.toolchain.choose import PROBE

ARCHS = ("gfx90a", "gfx942")
# e_flags & 0xff, LLVM AMDGPUUsage, "AMDGPU ELF Header e_flags"
MACHINE = {"gfx90a": 0x3F, "gfx942": 0x4C}


def check(code: bytes, arch: str) -> None:
    """ELF for the arch, code object version 5 (ABI version 3)."""
    assert code[:4] == b"\x7fELF"
    assert code[48] == MACHINE[arch]
    assert code[8] == 3


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ARCHS)
def test_ziglang_alone(arch: str, tmp_path: Path) -> None:
    """Nothing but Python and the wheel: an empty PATH, no home, and blanks in every directory name."""
    import ziglang

    packages = tmp_path / "site packages"
    packages.mkdir()
    (packages / "ziglang").symlink_to(Path(ziglang.__file__).parent)
    source = tmp_path / "a dir"
    source.mkdir()
    (source / "k.hip").write_text(PROBE)
    script = (
        "import sys; from pathlib import Path; from petitgen.toolchain import choose\n"
        f"c = choose({arch!r}); assert c.selected.name == 'ziglang', c\n"
        "assert 'site packages' in c.selected.command[0], c\n"
        f"sys.stdout.buffer.write(c.selected.compile(Path('k.hip').absolute(), {arch!r}))"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {
        "PATH": str(tmp_path / "nothing"),
        "PYTHONPATH": f"{packages}{os.pathsep}{root}",
        "XDG_CACHE_HOME": str(tmp_path / "the cache"),
    }
    done = subprocess.run([sys.executable, "-c", script], cwd=source, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    check(done.stdout, arch)


@pytest.mark.llvm
@pytest.mark.parametrize("arch", ARCHS)
def test_debian_hipcc_driving_clang_19(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hipcc = shutil.which("hipcc")
    if hipcc is None:
        pytest.skip("hipcc is not on PATH (apt install hipcc)")
    monkeypatch.delenv("HIPCC", raising=False)
    monkeypatch.delenv("ROCM_PATH", raising=False)
    monkeypatch.delenv("HIP_CLANG_PATH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache with blanks"))
    choice = choose(arch)
    assert choice.selected.name == "hipcc"
    assert "clang version 19." in choice.selected.version
    source = tmp_path / "a dir" / "k.hip"
    source.parent.mkdir()
    source.write_text(PROBE)
    check(choice.selected.compile(source, arch), arch)


@pytest.mark.compiler
@pytest.mark.parametrize("compiler", ["ziglang", pytest.param("clang-19", marks=pytest.mark.llvm)])
def test_output_does_not_depend_on_the_directory(compiler: str, tmp_path: Path) -> None:
    chosen = choose("gfx942", compiler).selected
    made = []
    for name in ("one", "another/and deeper"):
        source = tmp_path / name / "k.hip"
        source.parent.mkdir(parents=True)
        source.write_text(PROBE)
        made.append(chosen.compile(source, "gfx942"))
    assert made[0] == made[1]
