"""The table loader: what it accepts and what it refuses."""

from __future__ import annotations

import pytest

from petitgen.isa import tables
from petitgen.isa.formats import ARCHS
from petitgen.isa.tables import TableError, check, parse, type_dwords


def load(text: str, arch: str = "gfx90a") -> dict[tuple[str, int], tables.Row]:
    """The checked table of a text."""
    return check(parse(text, "t.isa"), arch)


def test_a_row_says_everything() -> None:
    """Words left of = are destinations, right of it sources and flags."""
    row = load("[VOP2]\nv_addc_co_u32 28 u32 vcc = u32 u32 vcc nosdwa @gfx90a  # carry\n")["VOP2", 28]
    assert (row.mnemonic, row.dst, row.src) == ("v_addc_co_u32", ("u32", "vcc"), ("u32", "u32", "vcc"))
    assert (row.flags, row.archs, row.where) == (frozenset({"nosdwa"}), ("gfx90a",), "t.isa:2")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[SOP1]\na 1 b32 = b32\nb 1 b32 = b32\n", r"t.isa:3: b overlaps a \(t.isa:2\)"),
        ("[SOP1]\na 1 b32 = b32\na 2 b32 = b32\n", "t.isa:3: a is already in t.isa:2"),
        ("[VOP2]\na 1 f32 = f32 f32\n[VOP3]\nb 257 f32 = f32 f32\n", r"b overlaps a .*'VOP3', 257"),
        ("[VOP1]\na 0 f32 = f32\n[VOPC]\nb 1 mask = f32 f32\n[VOP3]\nc 1 f32 = f32\n", "c overlaps b"),
        ("[VOP3P]\na 64 pk_f16 = pk_f16\n[MAI]\nb 64 f32x4 = f32 f32 f32x4\n", "b overlaps a"),
        ("[SOP1]\na 256 b32 = b32\n", "opcode 256 does not fit SOP1"),
        ("[SOP1]\na one b32 = b32\n", "expected 'mnemonic opcode"),
        ("[SOP1]\na 1 b32 b32\n", "expected 'mnemonic opcode"),
        ("[SOP1]\na 1 b33 = b32\n", "unknown type 'b33'"),
        ("[SOP1]\na 1 b32 = zz:b32\n", "unknown role 'zz'"),
        ("[SOP1]\na 1 b32 = b32 @gfx1100\n", "unknown arch"),
        ("[SOP9]\na 1 b32 = b32\n", "unknown format SOP9"),
        ("a 1 b32 = b32\n", "before the first"),
    ],
)
def test_bad_rows_are_refused(text: str, complaint: str) -> None:
    """With file, line and reason."""
    with pytest.raises(TableError, match=complaint):
        load(text)


def test_one_opcode_may_differ_by_arch() -> None:
    """Overlays: the same number means one thing on each arch."""
    text = "[VOP2]\na 23 f32 = f32 f32 @gfx90a\nb 23 f32 = f32 f32 @gfx942\n"
    assert [load(text, arch)["VOP2", 23].mnemonic for arch in ARCHS] == ["a", "b"]


@pytest.mark.parametrize(
    ("type_", "dwords"),
    [
        *[("f16", 1), ("pk_f16", 1), ("i8x4", 1), ("pk_f32", 2), ("f64", 2), ("mask", 2), ("f16x4", 2)],
        *[("fp8x8", 2), ("b96", 3), ("bf16x8", 4), ("f64x4", 8), ("f32x16", 16), ("b512", 16)],
    ],
)
def test_register_counts(type_: str, dwords: int) -> None:
    """Registers of a type."""
    assert type_dwords(type_) == dwords


@pytest.mark.parametrize("arch", ARCHS)
def test_the_tables_load(arch: str) -> None:
    """No overlap, and as many rows as the ISA has instructions outside VINTRP, MIMG and EXP."""
    assert len(tables.table(arch)) > 1100
    assert all(row.archs and arch in row.archs for row in tables.table(arch).values())
