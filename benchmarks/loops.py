"""Static measurement of the hot loops of kernels, from their disassembly: how many vector instructions a loop spends on
its weights, and how near its matrix instructions come to their bound in llvm-mca's in-order model of one wave.

    python benchmarks/loops.py 'gemm_nvfp4_bf16__gfx942_m128*' petit.hsaco ... [--rows R] [--json]

Names and globs select built kernels (`petitgen build`); a path ending in .hsaco or .co is any code object, all of its
kernels. --rows: rows of A that one wave multiplies, for kernels that are not ours; without it there is no figure per weight.
llvm-mca 19 is looked for as llvm-mca-19 or llvm-mca; without it its column is empty.

One unit is 4 clocks, as in LLVM's scheduling model. llvm-mca crashes on MUBUF; such an access is timed as a typed buffer
access (MTBUF) of the same size. --as-global takes a global access in its place, which llvm-mca counts with LDS accesses
too, so that a wait for LDS waits for memory: published figures of Petit were taken that way.
Figures are relative: one wave alone, every load 80 units away, no LDS conflicts.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the clone, installed or not

from petitgen.isa import CodeObject, Instruction, disassemble
from petitgen.isa.codeobject import Kernel
from petitgen.profiler.launches import load_arch
from petitgen.spec import load_catalog
from petitgen.spec.occupancy import room

GENERATED = Path(__file__).resolve().parents[1] / "generated"

# Units of one matrix instruction (4 clocks a pass): AMD matrix instruction calculator, LLVM SISchedule.
UNITS = {
    ("gfx942", "32x32x8"): 8, ("gfx942", "16x16x16"): 4, ("gfx942", "32x32x16"): 8, ("gfx942", "16x16x32"): 4,
    ("gfx90a", "32x32x8"): 16, ("gfx90a", "16x16x16"): 8, ("gfx942", "4x4x4"): 2, ("gfx90a", "4x4x4"): 2,
}  # fmt: skip
SIMDS = 4  # of a CU
MCA_TURNS = (20, 40)  # the difference leaves out what starts and ends the loop


@dataclass(frozen=True, slots=True)
class Figures:
    """What a hot loop holds. Instructions of one turn of one wave; units of 4 clocks.

    valu      every vector instruction but MFMA, moves to and from accumulation registers (`moves`) among them
    weights   4-bit weights a lane takes in one turn; None where the rows of a wave are not known
    bound     time of the matrix instructions alone; mca: llvm-mca's time of one turn, None without the tool
    """

    name: str
    arch: str
    instructions: int
    valu: int
    moves: int
    mfma: int
    lds_reads: int
    lds_writes: int
    loads: int
    stores: int
    scratch: int
    nops: int
    weights: float | None
    bound: int
    mca: float | None
    registers: int
    accumulation: int
    spills: int
    scratch_bytes: int
    lds_bytes: int
    waves: int

    @property
    def valu_per_8(self) -> float | None:
        """Vector instructions for 8 weights."""
        return 8 * self.valu / self.weights if self.weights else None

    @property
    def efficiency(self) -> float | None:
        """Matrix bound over modelled time, at most 1."""
        return self.bound / self.mca if self.mca else None


def measure(
    code: CodeObject,
    name: str | None = None,
    rows: int | None = None,
    mca: bool = True,
    loop: Sequence[Instruction] | None = None,
    as_global: bool = False,
) -> Figures | None:
    """Figures of a kernel's hot loop, None if it has no loop.

    rows: rows of A a wave multiplies (whole matrix instructions), for the figure per weight.
    loop: one turn of it, for a loop that has others inside it; otherwise it is looked for.
    """
    kernel = code.kernel(name)
    loop = hot_loop(disassemble(kernel.code, code.arch)) if loop is None else loop
    if not loop:
        return None
    return _figures(code.arch, kernel, loop, rows, mca_units(loop, code.arch, as_global) if mca else None)


def hot_loop(program: Sequence[Instruction]) -> list[Instruction]:
    """The innermost loop with the most matrix instructions, in the order in which one turn runs it; empty if none.

    Where a loop branches forward, the way with the most matrix instructions and then the fewest others is taken:
    what lies off it is the rare case.
    """
    place = {one.pc: i for i, one in enumerate(program)}
    edges = [(place.get(_target(one), -1), i) for i, one in enumerate(program) if _is_branch(one)]
    loops = [(first, last) for first, last in edges if 0 <= first <= last]
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        return []
    first, last = max(inner, key=lambda one: sum(_is_mfma(x) for x in program[one[0] : one[1] + 1]))
    return _usual_way(program[first : last + 1])


def _usual_way(body: Sequence[Instruction]) -> list[Instruction]:
    place = {one.pc: i for i, one in enumerate(body)}
    best: list[tuple[int, int] | None] = [None for _ in body]  # matrix instructions, minus all, up to here
    came = [-1] * len(body)
    best[0] = (int(_is_mfma(body[0])), -1)
    for i, one in enumerate(body[:-1]):
        here = best[i]
        if here is None:
            continue
        ways = [] if one.mnemonic in ("s_branch", "s_endpgm") else [i + 1]
        target = place.get(_target(one), -1) if _is_branch(one) else -1
        ways += [target] if target > i else []
        for way in ways:
            found = (here[0] + _is_mfma(body[way]), here[1] - 1)
            known = best[way]
            if known is None or found > known:
                best[way], came[way] = found, i
    taken, at = [], len(body) - 1
    while at >= 0:
        taken.append(body[at])
        at = came[at]
    return taken[::-1]


def _is_branch(one: Instruction) -> bool:
    return one.mnemonic.startswith(("s_branch", "s_cbranch"))


def _target(one: Instruction) -> int:
    return one.pc + 4 + 4 * one.src[0].value


def _is_mfma(one: Instruction) -> bool:
    return one.mnemonic.startswith("v_mfma")


def _figures(arch: str, kernel: Kernel, loop: Sequence[Instruction], rows: int | None, mca: float | None) -> Figures:
    matrix = [one for one in loop if _is_mfma(one)]
    vector = [one for one in loop if one.mnemonic.startswith("v_") and not _is_mfma(one)]
    shapes = [_shape(one) for one in matrix]
    macs = sum(m * n * k for m, n, k in shapes)
    memory = [one for one in loop if one.encoding in ("MUBUF", "MTBUF", "FLAT", "GLOBAL")]
    resources = kernel.resources
    return Figures(
        name=kernel.name,
        arch=arch,
        instructions=len(loop),
        valu=len(vector),
        moves=sum(one.mnemonic.startswith("v_accvgpr") for one in vector),
        mfma=len(matrix),
        lds_reads=sum(one.mnemonic.startswith("ds_read") for one in loop),
        lds_writes=sum(one.mnemonic.startswith("ds_write") for one in loop),
        loads=sum("_load_" in one.mnemonic for one in memory if not _is_scratch(one)),
        stores=sum("_store_" in one.mnemonic for one in memory if not _is_scratch(one)),
        scratch=sum(_is_scratch(one) for one in loop),
        nops=sum(one.mnemonic == "s_nop" for one in loop),
        weights=macs / (rows * 64) if rows else None,
        bound=sum(UNITS[arch, "x".join(map(str, shape))] for shape in shapes),
        mca=mca,
        registers=resources.vgpr_count,
        accumulation=resources.agpr_count,
        spills=resources.vgpr_spill_count + resources.sgpr_spill_count,
        scratch_bytes=resources.private_segment_fixed_size,
        lds_bytes=resources.group_segment_fixed_size,
        waves=_waves_per_simd(arch, kernel),
    )


def _shape(one: Instruction) -> tuple[int, int, int]:
    found = re.search(r"_(\d+)x(\d+)x(\d+)", one.mnemonic)
    assert found, one.mnemonic
    m, n, k = map(int, found.groups())
    return m, n, k


def _is_scratch(one: Instruction) -> bool:
    """Scratch has its own instructions on gfx942; on gfx90a it is a buffer without a vector address."""
    return one.encoding == "SCRATCH" or (one.encoding == "MUBUF" and " off, s[0:3]" in one.text)


def _waves_per_simd(arch: str, kernel: Kernel) -> int:
    resources, block = kernel.resources, int(kernel.metadata.get(".max_flat_workgroup_size", 256))
    lds = resources.group_segment_fixed_size
    return room(load_arch(arch), kernel.descriptor.vgpr_count, resources.sgpr_count, lds, block).waves_per_simd


# ---- llvm-mca ---------------------------------------------------------------------------------------------------------
_BUFFER = re.compile(r"buffer_(load|store)_(\w+) (\S+), (\S+), (s\[(\d+):\d+\]), (\S+)(.*)")
_SCRATCH_LOAD = re.compile(r"scratch_load(\S+) (\S+), \S+, \S+( offset:-?\d+)?")
_SCRATCH_STORE = re.compile(r"scratch_store(\S+) \S+, (\S+), \S+( offset:-?\d+)?")
_TYPED = {"dword": "x", "dwordx2": "xy", "dwordx3": "xyz", "dwordx4": "xyzw"}
_FORMAT = "format:[BUF_DATA_FORMAT_32_32_32_32,BUF_NUM_FORMAT_FLOAT]"


def mca_units(loop: Sequence[Instruction], arch: str, as_global: bool = False) -> float | None:
    """llvm-mca 19's time of one turn of the loop in units of 4 clocks; None without the tool.

    as_global: time buffer accesses as global ones.
    """
    tool = shutil.which("llvm-mca-19") or shutil.which("llvm-mca")
    if tool is None:
        return None
    text = "\n".join(_mca_lines(loop, as_global)) + "\n"
    few, many = (_total_cycles(tool, text, arch, turns) for turns in MCA_TURNS)
    return (many - few) / (MCA_TURNS[1] - MCA_TURNS[0])


def _total_cycles(tool: str, text: str, arch: str, turns: int) -> int:
    command = [tool, "-mtriple=amdgcn-amd-amdhsa", f"-mcpu={arch}", f"-iterations={turns}"]
    command += ["-instruction-info=false", "-resource-pressure=false"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    found = re.search(r"Total Cycles:\s+(\d+)", result.stdout)
    if result.returncode or not found:
        raise SystemExit(f"{tool} failed on a loop of {arch}: {result.stderr.strip()[:400]}")
    return int(found[1])


def _mca_lines(loop: Sequence[Instruction], as_global: bool) -> Iterator[str]:
    for one in loop:
        if _is_branch(one):
            continue
        if one.encoding == "MUBUF":
            yield _without_mubuf(one, as_global)
        elif one.encoding == "SCRATCH":
            yield _SCRATCH_STORE.sub(r"global_store\1 v[0:1], \2, off\3", _SCRATCH_LOAD.sub(r"global_load\1 \2, v[0:1], off\3", one.text))
        else:
            yield one.text


def _without_mubuf(one: Instruction, as_global: bool) -> str:
    """The same access as a typed buffer one, or as a global one with the buffer's base."""
    found = _BUFFER.fullmatch(one.text)
    if not found:
        raise SystemExit(f"no other form of {one.text!r} for llvm-mca")
    way, size, data, address, buffer, first, scalar, rest = found.groups()
    offset = re.search(r"offset:(\d+)", rest)
    if not as_global:
        mode = "offen " * ("offen" in rest) + (offset[0] if offset else "")
        return f"tbuffer_{way}_format_{_TYPED.get(size, 'x')} {data}, {address}, {buffer}, {scalar} {_FORMAT} {mode}"
    place = "v0" if address == "off" else address
    operands = f"{place}, {data}" if way == "store" else f"{data}, {place}"
    tail = f" {offset[0]}" if offset else ""
    return f"global_{way}_{size} {operands}, s[{first}:{int(first) + 1}]{tail}"


# ---- the command ------------------------------------------------------------------------------------------------------
def _code_objects(what: str) -> list[Path]:
    if what.endswith((".hsaco", ".co", ".elf")):
        return [Path(what)]
    found = sorted(GENERATED.glob(f"*/{what}.hsaco"))
    if not found:
        raise SystemExit(f"{GENERATED}: no kernel built that fits {what!r}; build it with: petitgen build '{what}'")
    return found


def _rows_of_ours() -> dict[str, int]:
    """Rows of A that a wave of each kernel of the catalog multiplies."""
    return {one.name: max(one.tile.m, 16) // one.tile.waves_m for one in load_catalog().gemms}


def _row(f: Figures) -> str:
    per_8 = f"{f.valu_per_8:6.2f}" if f.valu_per_8 else "     -"
    part = f"{f.mca:9.1f} {f.efficiency:6.3f}" if f.mca else "        -      -"
    return (
        f"{f.name:52.52} {per_8} {f.valu:5} {f.moves:5} {f.mfma:5} {f.lds_reads:4} {f.lds_writes:4} {f.loads:4} "
        f"{f.scratch:4} {f.nops:4} {f.registers:4}+{f.accumulation:<3} {f.scratch_bytes:5} {f.waves:2} {f.bound:6} {part}"
    )


HEADER = f"{'kernel':52}  VALU/8  VALU moves  MFMA  lds   st vmem  scr  nop  VGPR+a  scratch w  bound       mca  ratio"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="code objects, names or globs of built kernels")
    parser.add_argument("--rows", type=int, help="rows of A one wave multiplies, for kernels not ours")
    parser.add_argument("--kernel", help="only kernels of a code object whose name matches this regular expression")
    parser.add_argument("--as-global", action="store_true", help="time buffer accesses as global ones")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    found: list[Figures] = []
    ours = _rows_of_ours()
    for path in (path for what in options.what for path in _code_objects(what)):
        code = CodeObject.load(path)
        names = [name for name in code.kernels if re.search(options.kernel or "", name)]
        measured = (measure(code, name, options.rows or ours.get(name), as_global=options.as_global) for name in names)
        found += [figures for figures in measured if figures]
    if options.json:
        print(
            json.dumps([asdict(f) | {"valu_per_8": f.valu_per_8, "efficiency": f.efficiency} for f in found], indent=1)
        )
    else:
        print(HEADER, *map(_row, found), sep="\n")


if __name__ == "__main__":
    main()
