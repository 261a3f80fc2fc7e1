"""How many wait states LLVM 19 puts between two instructions that are given as assembler text.

Text -> llvm-mc -show-inst -> machine IR -> llc -run-pass=post-RA-hazard-rec -> the s_nops before the second instruction.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from petitgen.isa.model import Instruction

TRIPLE = "-mtriple=amdgcn-amd-amdhsa"
# With XNACK LLVM also breaks up clauses of loads, which has nothing to do with wait states.
_PASS = ("-mattr=-xnack", "-run-pass=post-RA-hazard-rec", "-x", "mir", "-", "-o", "-")
_SUFFIX = re.compile(r"(_(vi|gfx9|gfx90a|gfx940|gfx90A))*(_(acd|vcd))?(_(vi|gfx9|gfx10))?$")
# Instructions whose name in machine IR is another: the carry-in forms kept the names of before gfx9, v_fma_f16 did not.
_RENAMED = {"V_ADDC_CO_U32": "V_ADDC_U32", "V_SUBB_CO_U32": "V_SUBB_U32", "V_SUBBREV_CO_U32": "V_SUBBREV_U32",
            "V_FMA_F16": "V_FMA_F16_gfx9"}  # fmt: skip
_MISSING = re.compile(r"missing implicit register operand '(implicit(?:-def)? \$\w+)'")
_IMPLICIT_ROLES = ("", "vcc", "exec", "m0")


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    quiet = os.environ | {"LLVM_DISABLE_SYMBOLIZATION": "1"}
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=quiet)


def _mc(arch: str, lines: Iterable[str]) -> list[tuple[str, list[str]]]:
    """(opcode, operands "Reg:n" or "Imm:n") of each line."""
    text = "\n".join(lines)
    done = _run(["llvm-mc-19", "-triple=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-show-inst"], text)
    assert not done.stderr, done.stderr
    found: list[tuple[str, list[str]]] = []
    for match in re.finditer(r"<MCInst #\d+ (\w+)|<MCOperand ([^>]*)>", done.stdout):
        if match[1]:
            found.append((match[1], []))
        else:
            found[-1][1].append(match[2])
    return found


def _probes() -> dict[str, tuple[str, str]]:
    """For each class of registers an instruction whose first operand is of it, at two numbers: {format of its name}."""
    v = {1: "v_mov_b32 {}, s0", 2: "global_load_dwordx2 {}, v0, s[2:3]", 3: "global_load_dwordx3 {}, v0, s[2:3]",
         4: "global_load_dwordx4 {}, v0, s[2:3]", 8: "v_mfma_f64_16x16x4F64 {}, v[0:1], v[0:1], 0",
         16: "v_mfma_f32_32x32x8F16 {}, v[0:1], v[0:1], 0", 32: "v_mfma_f32_32x32x1XX {}, v0, v0, 0"}  # fmt: skip
    s = {1: "s_mov_b32 {}, 0", 2: "s_mov_b64 {}, 0", 4: "s_load_dwordx4 {}, s[0:1], 0", 8: "s_load_dwordx8 {}, s[0:1], 0"}
    return {f"{letter}{n}": (text, letter) for letter, table in (("v", v), ("a", v), ("s", s)) for n, text in table.items()}


@cache
def _registers(arch: str) -> dict[str, str]:
    """{"Reg:n": name in machine IR} of everything the programs use; LLVM numbers registers as it likes."""
    names, lines = [], []
    spell = {"F64": "f64", "F16": "f16", "XX": "f32"} if arch == "gfx90a" else {"F64": "_f64", "F16": "_f16", "XX": "_2b_f32"}
    for key, (text, letter) in _probes().items():
        width = int(key[1:])
        if letter == "a" and width == 1:
            text = "global_load_dword {}, v0, s[2:3]"
        for old, new in spell.items():
            text = text.replace(old, new)
        step = {"s": min(width, 4)}.get(letter, 1 if width == 1 else 2)
        for first in range(0, 128 if letter != "s" else 96, step):
            base = {"v": "vgpr", "a": "agpr", "s": "sgpr"}[letter]
            names.append("_".join(f"${base}{k}" if k == first else f"{base}{k}" for k in range(first, first + width)))
            lines.append(text.format(f"{letter}{first}" if width == 1 else f"{letter}[{first}:{first + width - 1}]"))
    for name in ("vcc_lo", "vcc_hi", "m0", "exec_lo", "exec_hi", "flat_scratch_lo"):
        names.append("$" + name.replace("flat_scratch", "flat_scr")), lines.append(f"s_mov_b32 {name}, 0")
    for name in ("vcc", "exec", "flat_scratch"):
        names.append("$" + name.replace("flat_scratch", "flat_scr")), lines.append(f"s_mov_b64 {name}, 0")
    return {operands[0]: name for name, (_, operands) in zip(names, _mc(arch, lines), strict=True)}


def _pseudo(opcode: str) -> str:
    """The name of an instruction in machine IR."""
    name = _SUFFIX.sub("", opcode)
    if name.startswith("SCRATCH_"):
        name = name.removesuffix("_VE")
    if "_MFMA_" in name or "_SMFMAC_" in name:
        return name.removesuffix("_e64") + ("_e64" if "acd" in opcode.split("_") or "SMFMAC" in name else "_vgprcd_e64")
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    return name


def machine_ir(arch: str, instructions: list[tuple[str, Instruction]]) -> dict[str, str]:
    """{text: line of machine IR}. What llvm-mc does not tell is corrected until llc accepts it."""
    registers, lines = _registers(arch), []
    for (_, ins), (opcode, operands) in zip(instructions, _mc(arch, [t for t, _ in instructions]), strict=True):
        words = [registers[o] if o.startswith("Reg:") else o.removeprefix("Imm:") for o in operands]
        results = sum(o.role not in _IMPLICIT_ROLES for o in ins.dst)
        if ins.mnemonic.startswith("s_movreld_"):
            results = 0
        name = _pseudo(opcode)
        lines.append(_Line(name, words[:results], words[results:], _usual_implicit(name)))
    for _ in range(4 * len(lines)):
        done = _llc(arch, "".join(_function(f"f{k}", [str(line)]) for k, line in enumerate(lines)))
        if not done.returncode:
            return {text: str(line) for (text, _), line in zip(instructions, lines, strict=True)}
        lines[_culprit(done.stderr)].correct(done.stderr)
    raise AssertionError(done.stderr[:2000])


@dataclass
class _Line:
    """One instruction of machine IR."""

    opcode: str
    results: list[str]
    operands: list[str]
    implicit: list[str]

    def __str__(self) -> str:
        left = f"{', '.join(self.results)} = " if self.results else ""
        return f"{left}{self.opcode} {', '.join((*self.operands, *self.implicit))}".rstrip()

    def correct(self, fault: str) -> None:
        """Add what a message of llc says is missing."""
        missing = _MISSING.search(fault)
        if missing:
            self.implicit.append(missing[1])
        elif "Explicit operand marked as implicit" in fault or "Too few operands" in fault:
            self.operands.append("0")
        elif "unknown machine instruction name" in fault and not self.opcode.endswith("_e64"):
            self.opcode += "_e64"  # it has no other form
        else:
            raise AssertionError(f"{self}: {fault[:1500]}")


_LINES = 7  # of _function with one instruction


def _culprit(fault: str) -> int:
    """The number of the function that llc complains of."""
    named = re.search(r"- function: +f(\d+)", fault)
    if named:
        return int(named[1])
    line = re.search(r"<stdin>:(\d+):", fault)
    assert line, fault[:1500]
    return (int(line[1]) - 1) // _LINES


def _usual_implicit(opcode: str) -> list[str]:
    if opcode.startswith("V_"):
        return ["implicit $mode", "implicit $exec"]
    vector = opcode.startswith(("BUFFER_", "GLOBAL_", "DS_", "FLAT_", "SCRATCH_"))
    return ["implicit $exec"] if vector else []


def _function(name: str, lines: list[str]) -> str:
    body = "\n".join(f"    {line}" for line in [*lines, "S_ENDPGM 0"])
    return f"---\nname: {name}\nbody: |\n  bb.0:\n{body}\n...\n"


def _llc(arch: str, text: str) -> subprocess.CompletedProcess[str]:
    return _run(["llc-19", TRIPLE, f"-mcpu={arch}", *_PASS], text)


def wait_states(arch: str, programs: list[list[str]]) -> list[list[int]]:
    """The wait states LLVM adds before each instruction but the first, of each program (lines of machine IR)."""
    done = _llc(arch, "".join(_function(f"f{k}", lines) for k, lines in enumerate(programs)))
    assert not done.returncode, done.stderr[:2000]
    bodies = re.split(r"^name: +f\d+$", done.stdout, flags=re.M)[1:]
    assert len(bodies) == len(programs)
    found = [_added(body) for body in bodies]
    assert all(len(f) == len(p) - 1 for f, p in zip(found, programs, strict=True))
    return found


def _added(body: str) -> list[int]:
    lines = [line.strip() for line in body.partition("bb.0:")[2].splitlines()]
    found, added = [], 0
    for line in lines[: next(k for k, line in enumerate(lines) if line.startswith("S_ENDPGM"))]:
        if line.startswith("S_NOP "):
            added += int(line.split()[1]) + 1
        elif line:
            found.append(added)
            added = 0
    return found[1:]
