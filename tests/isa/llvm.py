"""LLVM 19 as the authority: what llvm-mc and llvm-objdump make of bytes."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

S_NOP = struct.pack("<I", 0xBF800000)
CHUNK = 4000
_LINE = re.compile(r"\t(?P<text>.*?)\s*// (?P<address>[0-9A-F]+): (?:[0-9A-F]{8} ?)+")


def _marker(number: int) -> bytes:
    """s_mov_b32 s77, 0x5a000000 + number: tells where the text of an instruction starts."""
    return struct.pack("<II", 0xBECD00FF, 0x5A000000 + number)


def _hex(code: bytes) -> str:
    return " ".join(f"0x{byte:02x}" for byte in code)


def llvm_mc(codes: Sequence[bytes], arch: str) -> list[str | None]:
    """What llvm-mc prints for each instruction on its own; None if it is none, or has remarks (/* */).

    llvm-mc reads all lines as one stream, so two s_nop after each keep a missing literal from eating the
    next.
    """
    found: list[str | None] = []
    for start in range(0, len(codes), CHUNK):
        found += _chunk(codes[start : start + CHUNK], arch)
    return found


def _chunk(codes: Sequence[bytes], arch: str) -> list[str | None]:
    lines = [_hex(part) for i, code in enumerate(codes) for part in (_marker(i), code, S_NOP, S_NOP)]
    command = ["llvm-mc-19", "--disassemble", "--arch=amdgcn", f"-mcpu={arch}"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    texts: list[list[str]] = [[] for _ in codes]
    current: list[str] = []
    for line in done.stdout.splitlines():
        if match := re.match(r"\ts_mov_b32 s77, 0x5a([0-9a-f]{6})$", line):
            current = texts[int(match[1], 16)]
        elif line.startswith("\t") and not line.startswith("\t."):
            current.append(line.strip())
    for number in re.findall(r"<stdin>:(\d+):\d+: warning: ", done.stderr):
        texts[(int(number) - 1) // 4] = []
    return [
        text[0] if text and "/*" not in text[0] and text[1:].count("s_nop 0") >= len(text) - 1 else None
        for text in texts
    ]


def objdump(elf: Path, arch: str) -> Iterator[tuple[int, str]]:
    """(address, text without comment) of every instruction of a code object."""
    command = ["llvm-objdump-19", "-d", f"--mcpu={arch}", str(elf)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        if match := _LINE.match(line):
            yield int(match["address"], 16), match["text"]
