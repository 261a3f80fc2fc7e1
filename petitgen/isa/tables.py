"""The instruction tables: petitgen/isa/tables/*.isa, one line an instruction.

    [FORMAT]
    mnemonic  opcode  destinations = sources  flags        # comment

Sources and destinations are words, in the order in which the assembler writes them:

    f32 u32 i32 b32 f64 u64 i64 b64    one element
    f16 u16 i16 b16                    one element in the low half of a register
    b96 b128 b256 b512                 several registers
    pk_f16 pk_i16 pk_u16 pk_bf16       two 16-bit elements in a register
    pk_f32 pk_b32                      two registers
    f32x16, bf16x4 ...                 element type x count over consecutive registers (matrix instructions)
    mix                                f32, or f16 where op_sel_hi says so (v_fma_mix*)
    mask                               a 64-bit lane mask: vcc in VOPC, an SGPR pair in VOP3 and SDWA
    type?                              a destination of a returning atomic: there only with glc (sc0)
    role:type                          not the next register field but this one: sdst:b32, src0:b32
    acc:b32                            an AGPR
    scc vcc exec m0                    implicit registers
    dst                                the old value of the destination
    addr saddr rsrc soff gws           address operands of memory instructions
    simm uimm branch waitcnt hwreg sendmsg gpridx probe literal           immediates
    uimm?                              an immediate that is not written when it is 0

Flags:

    @gfx90a @gfx942                    only there
    noe64 nosdwa nodpp                 VOP1, VOP2, VOPC: there is no such form
    sdwa_src_only                      the SDWA form has no dst_sel
    floatmods                          neg and abs apply though the type is no float
    opsel opsel3                       VOP3: the op_sel bits are used (opsel3: with three source bits)
    two_offsets gds_only               DS
    lds                                may load to LDS: MUBUF, and GLOBAL and SCRATCH on gfx90a
    noglc                              SMEM
    scope                              MUBUF: sc0 and sc1 say which caches

A row's key is (format, opcode). No two rows of an arch may claim the same encoding, in the VOP3 forms of
VOP1/2/C rows too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from petitgen.isa.formats import ARCHS, FORMATS, PROMOTED

ELEMENT_BITS = {
    "fp8": 8, "bf8": 8, "i8": 8, "u8": 8, "f16": 16, "bf16": 16, "i16": 16, "u16": 16, "b16": 16,
    "f32": 32, "xf32": 32, "i32": 32, "u32": 32, "b32": 32, "f64": 64, "i64": 64, "u64": 64, "b64": 64,
    "b96": 96, "b128": 128, "b256": 256, "b512": 512, "mask": 64, "mix": 32,
}  # fmt: skip
IMPLICIT = frozenset({"scc", "vcc", "exec", "m0", "dst"})
ADDRESS = frozenset({"addr", "saddr", "rsrc", "soff", "gws"})
IMMEDIATE = frozenset(
    {"simm", "uimm", "uimm?", "branch", "waitcnt", "hwreg", "sendmsg", "gpridx", "probe", "literal"}
)
FLAGS = frozenset({"noe64", "nosdwa", "nodpp", "sdwa_src_only", "floatmods", "opsel", "opsel3", "scope"})
FLAGS |= {"two_offsets", "gds_only", "lds", "noglc"}
ROLES = frozenset({"sdst", "src0", "acc"})
_TYPE = re.compile(r"(pk_)?([a-z]+?\d+|mask|mix)(?:x(\d+))?")
_SECTION = re.compile(r"\[(\w+)\]")


class TableError(ValueError):
    """A row that cannot be: file, line, and what is wrong. A fault of this package, never of the user."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    mnemonic: str
    format: str
    opcode: int
    dst: tuple[str, ...]
    src: tuple[str, ...]
    flags: frozenset[str]
    archs: tuple[str, ...]
    where: str  # file:line

    @property
    def key(self) -> tuple[str, int]:
        """What must be unique within an arch."""
        return self.format, self.opcode

    @property
    def encodings(self) -> Iterator[tuple[str, int]]:
        """Every (format, opcode) the row claims."""
        shared = {"MAI": "VOP3P"}  # two layouts of one opcode space
        yield shared.get(self.format, self.format), self.opcode
        if self.format in PROMOTED and "noe64" not in self.flags:
            yield "VOP3", PROMOTED[self.format] + self.opcode


@cache
def type_bits(type_: str) -> int:
    """Bits of a value of a type. KeyError if there is no such type."""
    match = _TYPE.fullmatch(type_)
    if match is None or match[2] not in ELEMENT_BITS:
        raise KeyError(type_)
    return ELEMENT_BITS[match[2]] * int(match[3] or 1) * (2 if match[1] else 1)


@cache
def type_dwords(type_: str) -> int:
    """Number of 32-bit registers a value of a type takes."""
    return max(1, type_bits(type_) // 32)


def parse(text: str, file: str) -> Iterator[Row]:
    """The rows of one table file. TableError on the first bad line."""
    section = ""
    for number, raw in enumerate(text.splitlines(), 1):
        where = f"{file}:{number}"
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if match := _SECTION.fullmatch(line):
            section = match[1]
            if section not in FORMATS:
                raise TableError(f"{where}: unknown format {section}")
            continue
        if not section:
            raise TableError(f"{where}: a row before the first [FORMAT]")
        yield _row(line, section, where)


def _row(line: str, section: str, where: str) -> Row:
    left, equals, right = line.partition("=")
    words = left.split()
    if not equals or len(words) < 2 or not words[1].isdigit():
        raise TableError(f"{where}: expected 'mnemonic opcode destinations = sources flags', got {line!r}")
    mnemonic, opcode, dst = words[0], int(words[1]), tuple(words[2:])
    src, flags, archs = [], set(), []
    for word in right.split():
        if word.startswith("@"):
            archs.append(word[1:])
        elif word in FLAGS:
            flags.add(word)
        else:
            src.append(word)
    for word in (*dst, *src):
        _check_word(word, where)
    if opcode > FORMATS[section].opcode.mask:
        raise TableError(f"{where}: opcode {opcode} does not fit {section}")
    if unknown := set(archs) - set(ARCHS):
        raise TableError(f"{where}: unknown arch {sorted(unknown)}")
    return Row(mnemonic, section, opcode, dst, tuple(src), frozenset(flags), tuple(archs) or ARCHS, where)


def _check_word(word: str, where: str) -> None:
    if word in IMPLICIT | ADDRESS | IMMEDIATE:
        return
    role, colon, type_ = word.rpartition(":")
    if colon and role not in ROLES:
        raise TableError(f"{where}: unknown role {role!r} in {word!r}")
    try:
        type_bits(type_.removesuffix("?"))
    except KeyError:
        raise TableError(f"{where}: unknown type {word!r}") from None


def check(rows: Iterable[Row], arch: str) -> dict[tuple[str, int], Row]:
    """The rows of an arch by (format, opcode).

    Raises TableError where two claim one encoding or share a name within a format.
    """
    claimed: dict[tuple[str, int], Row] = {}
    names: dict[tuple[str, str], Row] = {}
    table: dict[tuple[str, int], Row] = {}
    for row in rows:
        if arch not in row.archs:
            continue
        for encoding in row.encodings:
            if encoding in claimed:
                other = claimed[encoding]
                raise TableError(
                    f"{row.where}: {row.mnemonic} overlaps {other.mnemonic} ({other.where}) at {encoding}"
                )
            claimed[encoding] = row
        if (row.format, row.mnemonic) in names:
            raise TableError(
                f"{row.where}: {row.mnemonic} is already in {names[row.format, row.mnemonic].where}"
            )
        names[row.format, row.mnemonic] = row
        table[row.key] = row
    return table


@cache
def rows() -> tuple[Row, ...]:
    """Every row of every table file, in file order."""
    folder = resources.files(__package__) / "tables"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".isa")), key=lambda f: f.name)
    return tuple(row for f in files for row in parse(f.read_text("utf-8"), f.name))


@cache
def table(arch: str) -> dict[tuple[str, int], Row]:
    """The rows of an arch by (format, opcode), checked once. KeyError for an unknown arch."""
    if arch not in ARCHS:
        raise KeyError(arch)
    return check(rows(), arch)


@cache
def mnemonics(arch: str) -> dict[str, tuple[Row, ...]]:
    """The rows of an arch by mnemonic; the e64, SDWA and DPP forms of an instruction are one row."""
    found: dict[str, list[Row]] = {}
    for row in table(arch).values():
        found.setdefault(row.mnemonic, []).append(row)
    return {name: tuple(group) for name, group in found.items()}
