"""decode() against LLVM's text for every form of every row (vectors written by make_vectors.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from petitgen.isa import decode, disassemble
from petitgen.isa.formats import ARCHS
from petitgen.isa.forms import form_table

VECTORS = Path(__file__).parent / "vectors"


def lines(arch: str) -> Iterator[tuple[bytes, str]]:
    """(bytes, text) of a vector file."""
    for line in (VECTORS / f"{arch}.txt").read_text().splitlines():
        code, _, text = line.partition(" ")
        yield bytes.fromhex(code), text


@pytest.mark.parametrize("arch", ARCHS)
def test_text_is_what_llvm_prints(arch: str) -> None:
    """Text and size, whatever follows the instruction."""
    wrong = []
    for code, text in lines(arch):
        found = decode(code + b"\xff" * 4, 0, arch)
        if (found.text, found.size) != (text, len(code)):
            wrong.append(f"{code.hex()}: expected {text!r}, got {found.text!r} ({found.size} bytes)")
    assert not wrong, "\n".join([f"{len(wrong)} differ", *wrong[:20]])


@pytest.mark.parametrize("arch", ARCHS)
def test_every_form_has_a_vector(arch: str) -> None:
    """No row without an independent witness."""
    seen = {text.split()[0] for _, text in lines(arch)}
    missing = sorted({form.name for form in form_table(arch).values()} - seen)
    assert not missing


@pytest.mark.parametrize("arch", ARCHS)
def test_disassembling_everything_in_a_row(arch: str) -> None:
    """3,600 different instructions, one after the other."""
    code = b"".join(code for code, _ in lines(arch))
    instructions = disassemble(code, arch, base=0x1000)
    assert [i.text for i in instructions] == [text for _, text in lines(arch)]
    assert instructions[-1].pc + instructions[-1].size == 0x1000 + len(code)
