"""Source lines against llvm-objdump's, code objects that have none, and functions that kernels call."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from petitgen.emulator import DeviceMemory, launch
from petitgen.emulator.sanitizer import Finding
from petitgen.emulator.sanitizer.lines import LineTable, with_sources
from petitgen.isa import CodeObject
from petitgen.toolchain import Compiler, choose
from petitgen.toolchain.flags import compile_flags

SOURCE = """\
#define KERNEL extern "C" __attribute__((global)) void
static __attribute__((device, noinline)) float twice(float x, int n) {
  for (int i = 0; i < n; ++i)
    x = x * x + 1;
  return x;
}
KERNEL first(const float *in, float *out, int n) {
  int i = __builtin_amdgcn_workitem_id_x();
  if (i < n)
    out[i] = twice(in[i], n);
}
KERNEL second(int *out) {
  *out = 1;
}
"""
CLANG = Compiler("test", "clang", ("clang-19",))
STORED = Path(__file__).parents[2] / "isa" / "objects" / "memory_gfx942.hsaco"


def compiled(folder: Path, arch: str, tool: Compiler, level: str) -> Path:
    (folder / "lines.hip").write_text(SOURCE)
    status, text = tool.run([*compile_flags(arch), level, "lines.hip", "-o", "lines.hsaco"], cwd=folder)
    assert status == 0, text
    return folder / "lines.hsaco"


def objdump(file: Path) -> dict[int, str]:
    """{address: "file:line"} of every instruction, as llvm-objdump -l prints them."""
    done = subprocess.run(["llvm-objdump-19", "-d", "-l", file], capture_output=True, text=True, check=True)
    found, place = {}, ""
    for line in done.stdout.splitlines():
        if re.fullmatch(r"[0-9a-f]{16} <.*>:", line):
            place = ""
        elif match := re.fullmatch(r"; .*/(\S+:\d+)", line):
            place = match[1]
        elif (match := re.search(r"// ([0-9A-F]{12}): ", line)) and place:
            found[int(match[1], 16)] = place
    return found


@pytest.mark.llvm
@pytest.mark.parametrize("level", ["-g", "-gline-tables-only", "-gdwarf-4"])
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_lines_are_those_of_objdump(arch: str, level: str, tmp_path: Path) -> None:
    file = compiled(tmp_path, arch, CLANG, level)
    code, expected = CodeObject.load(file), objdump(file)
    table = LineTable(code.elf)
    assert {place.partition(":")[0] for place in expected.values()} == {"lines.hip"}
    for function in code.functions:
        inside = {
            a: place
            for a, place in expected.items()
            if function.address <= a < function.address + function.size
        }
        assert inside
        assert {address: table.at(address) for address in inside} == inside


@pytest.mark.compiler
def test_findings_get_their_line(tmp_path: Path) -> None:
    file = compiled(tmp_path, "gfx942", choose("gfx942").selected, "-gline-tables-only")
    code = CodeObject.load(file)
    kernel = code.kernel("second")
    finding = Finding("wait", "", "second", 0, "", 0, 0, 0, 1)
    (named,) = with_sources([finding], code, kernel)
    assert named == replace(finding, source=named.source)
    assert named.source in ("lines.hip:12", "lines.hip:13")
    assert str(named).startswith(f"wait: {named.source}: second+0x0")


def test_without_line_info_there_is_no_source() -> None:
    code = CodeObject.load(STORED)
    assert len(LineTable(code.elf)) == 0
    finding = Finding("wait", "", "scratch", 0, "", 0, 0, 0, 1)
    assert with_sources([finding], code, code.kernel("scratch")) == (finding,)


def test_damaged_line_info_is_none() -> None:
    assert LineTable(STORED.read_bytes()[:3000]).at(0x1600) == ""
    assert LineTable(b"nothing").at(0) == ""


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_findings_in_other_functions_name_them(built: Callable[..., CodeObject], arch: str) -> None:
    """A function stores what it loads, half of which was never written."""
    code, memory = built("calls", arch, "ziglang"), DeviceMemory()
    given = memory.allocate(256)
    memory.write(given, bytes(128))
    result = launch(code, "copied", 1, 64, [np.zeros(64, np.uint32), given], memory=memory, sanitize=True)
    (finding,) = result.findings
    (put,) = (f for f in code.functions if "put" in f.name)
    address = code.kernel("copied").entry + finding.pc
    assert finding.place == f"{put.name}+{address - put.address:#x}"
    assert 0 <= address - put.address < put.size
    assert str(finding).startswith(f"undefined: {finding.place} (called from copied) `")
    assert finding.lanes == 0xFFFF_FFFF_0000_0000


def test_messages_name_instructions_of_other_functions() -> None:
    code = CodeObject.load(STORED)
    first, second = code.functions[:2]
    kernel = next(k for k in code.kernels.values() if k.entry == second.address)
    apart = first.address - second.address
    finding = Finding("wait", "of `s_nop 0` at {} and `s_nop 0` at +0x10; needs", kernel.name, 4, "", 0, 0, 0, 1)
    given = replace(finding, message=finding.message.format(f"+{apart + 8:#x}"))
    (named,) = with_sources([given], code, kernel)
    assert named.message == finding.message.format(f"{first.name}+0x8")
    assert named.place == ""
    (moved,) = with_sources([replace(finding, pc=apart + 12)], code, kernel)
    assert moved.place == f"{first.name}+0xc"
