"""Programs in C and HIP that know nothing of petitgen, linked with -lamdhip64 and started with the virtual library in their path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from petitgen.driver import child_environment, library

from .harness import kernel_file

pytestmark = pytest.mark.compiler

HERE = Path(__file__).parent
HEADER = Path("/usr/include/hip/hip_runtime_api.h")


def start(program: Path, *arguments: str, devices: list[str]) -> subprocess.CompletedProcess[str]:
    environment = child_environment(devices, None)
    return subprocess.run(
        [str(program), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def build(source: str, program: Path, *flags: str) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", *flags, str(HERE / source), "-o", str(program),
               f"-L{library().parent}", "-lamdhip64"]  # fmt: skip
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(program.parent)}
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert built.returncode == 0, built.stderr


@pytest.mark.parametrize("header", [False, True], ids=["own declarations", "AMD's header"])
def test_a_c_program(tmp_path: Path, header: bool) -> None:
    if header and not HEADER.exists():
        pytest.skip(f"{HEADER} is not there (apt install libamdhip64-dev)")
    program = tmp_path / "host_program"
    flags = ["-DHIP_HEADER", "-D__HIP_PLATFORM_AMD__", "-isystem", "/usr/include", "-std=c11"] if header else []
    build("host_program.c", program, *flags)
    done = start(program, kernel_file("gfx942"), devices=["gfx942"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "1 device, a fault is: unspecified launch failure\n"
    assert "kernel store_at on device 0" in done.stderr
    other = start(program, kernel_file("gfx942"), devices=["gfx90a"])
    assert other.returncode == 1
    assert "no kernel image is available" in other.stdout


def test_a_launch_fails_when_the_emulator_could_not_be_told_of_an_allocation(tmp_path: Path) -> None:
    build("no_memory.c", tmp_path / "no_memory", "-rdynamic")
    done = start(tmp_path / "no_memory", kernel_file("gfx942"), devices=["gfx942"])
    assert done.stdout == "719 0 0\n", done.stdout + done.stderr  # hipErrorLaunchFailure, then all is well
    assert "could not be told of an allocation" in done.stderr


@pytest.mark.llvm
def test_a_program_with_kernels_inside(tmp_path: Path) -> None:
    """Host and device code in one file, as hipcc compiles it: fat binary, registered kernels, <<<>>>."""
    clang = shutil.which("clang-19")
    assert clang
    program = tmp_path / "launcher"
    command = [clang, "-x", "hip", "-O2", "-nogpulib", "-nogpuinc", "--offload-arch=gfx942", "--offload-arch=gfx90a",
               str(HERE / "launcher.hip"), "-o", str(program), f"-L{library().parent}", "-lamdhip64"]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for arch in ("gfx942", "gfx90a"):
        done = start(program, devices=[arch])
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == "kernel _Z5scalePii: right\n"
