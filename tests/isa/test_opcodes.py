"""Every opcode of every format: the decoder knows the ones llvm-mc knows, by the same names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from petitgen.isa.formats import ARCHS, FLAT_SEGMENTS, FORMATS
from petitgen.isa.forms import form_table

from .llvm import llvm_mc

VGPR = 256
# Second words to try, so that one of them is legal for every instruction: operands of each class, unused
# ones 0.
VOP3_WORDS = [
    src0 | src1 << 9 | src2 << 18 | high
    for src0 in (0, VGPR)
    for src1 in (0, VGPR)
    for src2 in (0, VGPR)
    for high in (0, 3 << 27)
]
OFF = 0x7F << 16
TRIES: dict[str, tuple[list[int], list[int]]] = {  # format: (bits beside the opcode in word 0, second words)
    "SOP2": ([0], []),
    "SOPK": ([0], []),
    "SOP1": ([0], []),
    "SOPC": ([0], []),
    "SOPP": ([0], []),
    "SMEM": ([1 << 17, 0], [0]),
    "VOP2": ([VGPR], []),
    "VOP1": ([0, VGPR], []),
    "VOPC": ([VGPR], []),
    "VOP3": ([0], VOP3_WORDS),
    "VOP3P": ([0, 1 << 14], VOP3_WORDS),
    "VOP2_SDWA": ([249], [0x06060600]),
    "VOP1_SDWA": ([249], [0x00060600, 0]),
    "VOPC_SDWA": ([249], [0x06060000]),
    "VOP2_DPP": ([250], [0xFF000000 | 0x150 << 8]),
    "VOP1_DPP": ([250], [0xFF000000 | 0x150 << 8]),
    "DS": ([0, 1 << 16], [0]),
    "MUBUF": ([0], [0]),
    "MTBUF": ([0], [0]),
    "FLAT": ([0], [0]),
    "SCRATCH": ([1 << 14], [0, OFF]),
    "GLOBAL": ([2 << 14], [0, OFF]),
}


def encodings(name: str) -> Iterator[tuple[int, bytes]]:
    """(opcode, bytes) of everything worth trying in a format."""
    base = name.partition("_")[0]
    format_ = FORMATS[base]
    prefix = FORMATS["FLAT"].prefix if base in FLAT_SEGMENTS else format_.prefix
    lows, seconds = TRIES[name]
    for opcode in range(format_.opcode.mask + 1):
        fixed = int(prefix.ljust(32, "0"), 2) | opcode << format_.opcode.low
        if not f"{fixed:032b}".startswith(longest_prefix(fixed)) or longest_prefix(fixed) != prefix:
            continue  # the opcode field runs into another format
        for low in lows:
            for second in seconds or [None]:
                words = [fixed | low] if second is None else [fixed | low, second]
                yield opcode, b"".join(word.to_bytes(4, "little") for word in words)


def longest_prefix(word: int) -> str:
    """The prefix of the format a first word belongs to."""
    bits = f"{word:032b}"
    return max((f.prefix for f in FORMATS.values() if f.prefix and bits.startswith(f.prefix)), key=len)


@pytest.mark.llvm
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", TRIES)
def test_same_opcodes_as_llvm(name: str, arch: str) -> None:
    """Opcode -> mnemonic, both ways."""
    tried = list(encodings(name))
    texts = llvm_mc([code for _, code in tried], arch)
    theirs = {opcode: text.split()[0] for (opcode, _), text in zip(tried, texts, strict=True) if text}
    ours = {opcode: form.name for (format_, opcode), form in form_table(arch).items() if format_ == name}
    assert ours == theirs
