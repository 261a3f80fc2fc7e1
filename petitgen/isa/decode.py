"""Bytes to instructions.

`decode` looks the encoding up in the tables and reads its operands; `disassemble` does so for a whole code
section. Both raise petitgen.errors.DecodeError for bytes that are no instruction.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cache

from petitgen.errors import DecodeError
from petitgen.isa import text
from petitgen.isa.formats import ARCHS
from petitgen.isa.forms import Form, form_table, select
from petitgen.isa.model import Instruction, Operand
from petitgen.isa.readers import Mods

CACHE_LIMIT = 1 << 16  # decoded instructions kept for each arch


@dataclass(slots=True)
class _Decoder:
    """The tables of one arch, and the instructions it has met, by their bits."""

    arch: str
    known: dict[int, Instruction]

    def decode(self, code: bytes, offset: int, pc: int) -> Instruction:
        left = len(code) - offset
        if left < 4 or offset < 0:
            raise DecodeError(
                f"pc {pc:#x}: no whole instruction at offset {offset} of {len(code)} bytes of code"
            )
        low = int.from_bytes(code[offset : offset + 4], "little")
        form = select(form_table(self.arch), low)
        if form is None:
            raise self._unknown(low, code, offset, pc)
        size = form.size(low)
        if left < size:
            raise DecodeError(
                f"pc {pc:#x}: {form.row.mnemonic} needs {size} bytes, {left} are left ({low:08x})"
            )
        raw = low if size == 4 else int.from_bytes(code[offset : offset + 8], "little")
        found = self.known.get(raw)
        if found is None:
            found = self._build(form, raw, size, pc)
            if len(self.known) >= CACHE_LIMIT:
                self.known.clear()
            self.known[raw] = found
        if found.pc == pc:
            return found
        return replace(found, pc=pc)

    def _build(self, form: Form, raw: int, size: int, pc: int) -> Instruction:
        row, mods = form.row, form.modifiers(raw, self.arch)
        dst = [slot.read(raw, mods) for slot in form.dst(mods)]
        src = [slot.read(raw, mods) for slot in form.src]
        words = struct.unpack(f"<{size // 4}I", raw.to_bytes(size, "little"))
        read = [operand for operand in (*dst, *src) if operand is not None]
        if len(read) != len(dst) + len(src):
            words_read = (*row.dst[: len(dst)], *row.src)
            at = [word for word, operand in zip(words_read, dst + src, strict=True) if operand is None]
            reason = f"no register or constant where {', '.join(at)} should be"
            raise DecodeError(f"pc {pc:#x}: {self.arch} {row.mnemonic} ({_hex(words)}) has {reason}")
        outputs, inputs = tuple(read[: len(dst)]), tuple(read[len(dst) :])
        line = self._text(form, mods, outputs, inputs)
        return Instruction(
            pc, size, self.arch, row.mnemonic, form.encoding, outputs, inputs, mods, words, line
        )  # fmt: skip

    def _text(self, form: Form, mods: Mods, dst: tuple[Operand, ...], src: tuple[Operand, ...]) -> str:
        shown = [operand for slot, operand in zip(form.dst(mods), dst, strict=True) if slot.shown]
        shown += [operand for slot, operand in zip(form.src, src, strict=True) if slot.shown]
        if "mix" in form.row.src:
            neg, abs_ = mods.get("neg_lo", 0), mods.get("neg_hi", 0)
            sources = enumerate(shown[1:])
            shown[1:] = [replace(o, neg=bool(neg >> i & 1), abs=bool(abs_ >> i & 1)) for i, o in sources]
        modifiers = form.text_modifiers(form.row, mods, self.arch)
        return text.line(form.name, shown, modifiers, mods.get("sext", 0))

    def _unknown(self, low: int, code: bytes, offset: int, pc: int) -> DecodeError:
        words = [low, *struct.unpack_from("<I", code, offset + 4)] if len(code) - offset >= 8 else [low]
        near = nearest(low, self.arch)
        hint = f"; nearest: {near}" if near else ""
        return DecodeError(f"pc {pc:#x}: no {self.arch} instruction starts with {_hex(words)}{hint}")


def _hex(words: list[int] | tuple[int, ...]) -> str:
    return " ".join(f"{word:08x}" for word in words)


def nearest(low: int, arch: str) -> str:
    """The mnemonic of the same word on the other arch, or of a word one bit away; empty if there is none."""
    forms = form_table(arch)
    for other in ARCHS:
        found = select(form_table(other), low) if other != arch else None
        if found is not None:
            return f"{found.row.mnemonic} (of {other})"
    for bit in range(32):
        found = select(forms, low ^ 1 << bit)
        if found is not None:
            return found.row.mnemonic
    return ""


@cache
def _decoder(arch: str) -> _Decoder:
    if arch not in ARCHS:
        raise DecodeError(f"unknown architecture {arch!r}; known: {', '.join(ARCHS)}")
    return _Decoder(arch, {})


def decode(code: bytes, offset: int, arch: str, pc: int | None = None) -> Instruction:
    """The instruction at byte `offset` of `code`.

    arch    gfx90a or gfx942
    pc      what Instruction.pc shall say; `offset` if left out
    Raises DecodeError with pc, bytes and the nearest mnemonic.
    """
    return _decoder(arch).decode(code, offset, offset if pc is None else pc)


def disassemble(code: bytes, arch: str, base: int = 0) -> list[Instruction]:
    """Every instruction of `code`, one after the other; pc counts from `base`. Raises DecodeError as
    `decode` does."""
    decoder = _decoder(arch)
    instructions = []
    offset = 0
    while offset < len(code):
        instruction = decoder.decode(code, offset, base + offset)
        instructions.append(instruction)
        offset += instruction.size
    return instructions
