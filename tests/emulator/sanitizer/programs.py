"""Straight-line programs for the issue checks, which need no execution: what one wave has issued decides everything.

The bytes are in programs.json, so that tests need no assembler. To add programs, write the test and run it once with
PETITGEN_ASSEMBLE=1 and llvm-mc-19 on PATH; test_programs.py holds the file against llvm-mc.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from petitgen.emulator.sanitizer.footprint import footprint
from petitgen.emulator.sanitizer.issue import NOTHING_ISSUED, step
from petitgen.emulator.sanitizer.window import Hazards
from petitgen.isa import decode
from petitgen.isa.model import Instruction

from ..assembled import assemble

FILE = Path(__file__).with_name("programs.json")
ENTRY = 0x1000


@cache
def recorded() -> dict[str, str]:
    """ "arch|text" -> bytes in hexadecimal."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def instructions(arch: str, text: str) -> list[Instruction]:
    """A program of lines, decoded from the recorded bytes. `s_nop` without a number and blank lines are no lines."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    known = recorded()
    missing = [line for line in lines if f"{arch}|{line}" not in known]
    if missing and os.environ.get("PETITGEN_ASSEMBLE"):
        for line in missing:
            known[f"{arch}|{line}"] = assemble(arch, line).hex()
        FILE.write_text(json.dumps(dict(sorted(known.items())), indent=0) + "\n")
        missing = []
    if missing:
        raise AssertionError(f"not in {FILE.name}: {arch} {missing}; run this test once with PETITGEN_ASSEMBLE=1")
    code = bytes.fromhex("".join(known[f"{arch}|{line}"] for line in lines))
    found, offset = [], 0
    while offset < len(code):
        found.append(decode(code, offset, arch, ENTRY + offset))
        offset += found[-1].size
    return found


def findings(arch: str, text: str, cautious: bool = False) -> list[tuple[int, str, str]]:
    """(line from 0, check, message) of everything that is wrong with a program that one wave runs."""
    state, found, hazards = NOTHING_ISSUED, [], Hazards(arch, cautious)
    for line, instruction in enumerate(instructions(arch, text)):
        state, problems = step(state, footprint(instruction), hazards, ENTRY)
        found += [(line, p.check, p.message) for p in problems]
    return found
