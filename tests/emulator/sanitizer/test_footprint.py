"""What instructions touch, against register lists written by hand from the ISA document."""

from __future__ import annotations

import pytest

from petitgen.emulator.sanitizer.footprint import AGPR, EXEC, M0, SCC, SGPR, VCC, Unit, footprint
from petitgen.isa import decode


def v(first: int, count: int = 1) -> set[int]:
    return set(range(first, first + count))


def s(first: int, count: int = 1) -> set[int]:
    return set(range(SGPR + first, SGPR + first + count))


VCC2, EXEC2 = {VCC, VCC + 1}, {EXEC, EXEC + 1}

# arch, bytes (llvm-mc-19), unit, reads, writes, flags: l(oad) s(tore) d (to LDS)
CASES = {
    "v_add_f32_e32 v1, v2, v3": ("gfx942", "02070202", Unit.VALU, v(2) | v(3) | EXEC2, v(1), ""),
    "v_cndmask_b32_e32 v1, v2, v3, vcc": ("gfx942", "02070200", Unit.VALU, v(2, 2) | VCC2 | EXEC2, v(1), ""),
    "v_mfma_f32_16x16x16_f16 a[0:3], v[4:5], v[6:7], a[8:11]": (
        "gfx942", "0080cdd3040d2204", Unit.MFMA, v(4, 4) | v(AGPR + 8, 4), v(AGPR, 4), ""),
    "v_rcp_f32_e32 v1, v2": ("gfx942", "0245027e", Unit.TRANS, v(2) | EXEC2, v(1), ""),
    "s_add_u32 s0, s1, s2": ("gfx942", "01020080", Unit.SALU, s(1, 2), s(0) | {SCC}, ""),
    "s_load_dwordx4 s[4:7], s[2:3], 0x10": ("gfx942", "01010ac010000000", Unit.SMEM, s(2, 2), s(4, 4), "l"),
    "buffer_load_dword v1, v2, s[4:7], s8 offen": (
        "gfx942", "001050e002010108", Unit.VMEM, v(2) | s(4, 4) | s(8) | EXEC2, v(1), "l"),
    "buffer_load_dword v2, s[4:7], s8 offen lds": (
        "gfx90a", "001051e002000108", Unit.VMEM, v(2) | s(4, 4) | s(8) | EXEC2 | {M0}, set(), "sd"),
    "global_store_dwordx2 v1, v[2:3], s[4:5]": (
        "gfx942", "008074dc01020400", Unit.VMEM, v(1) | v(2, 2) | s(4, 2) | EXEC2, set(), "s"),
    "flat_atomic_add v1, v[2:3], v4 sc0": ("gfx942", "000009dd02040001", Unit.FLAT, v(2, 3) | EXEC2, v(1), "ls"),
    "ds_read2_b32 v[0:1], v2 offset1:1": ("gfx942", "00016ed802000000", Unit.LDS, v(2) | EXEC2, v(0, 2), "l"),
    "ds_write_b64 v1, v[2:3]": ("gfx942", "00009ad801020000", Unit.LDS, v(1, 3) | EXEC2, set(), "s"),
    "ds_bpermute_b32 v1, v2, v3": ("gfx942", "00007ed802030001", Unit.LDS, v(2, 2) | EXEC2, v(1), "l"),
    "v_readlane_b32 s1, v2, s3": ("gfx942", "010089d202070000", Unit.VALU, v(2) | s(3), s(1), ""),
    "s_cbranch_vccz 0": ("gfx942", "000086bf", Unit.BRANCH, VCC2, set(), ""),
    "s_and_saveexec_b64 s[0:1], vcc": ("gfx942", "6a2080be", Unit.SALU, VCC2 | EXEC2, s(0, 2) | EXEC2 | {SCC}, ""),
    "v_fma_mixlo_f16 v1, v2, v3, v4": ("gfx942", "0100a1d302071204", Unit.VALU, v(1, 4) | EXEC2, v(1), ""),
    "s_waitcnt vmcnt(0)": ("gfx942", "700f8cbf", Unit.OTHER, set(), set(), ""),
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_registers_and_unit(text: str) -> None:
    arch, code, unit, reads, writes, flags = CASES[text]
    instruction = decode(bytes.fromhex(code), 0, arch, 0)
    assert instruction.text == text
    found = footprint(instruction)
    assert found.unit is unit
    assert found.reads == reads
    assert found.writes == writes
    assert (found.load, found.store, found.to_lds) == ("l" in flags, "s" in flags, "d" in flags)


def test_operands_keep_the_order_of_the_table() -> None:
    arch, code, *_ = CASES["v_cndmask_b32_e32 v1, v2, v3, vcc"]
    found = footprint(decode(bytes.fromhex(code), 0, arch, 0))
    assert [rows for _, rows in found.operands] == [(2,), (3,), (VCC, VCC + 1)]
    assert [rows for _, rows in found.results] == [(1,)]


def test_every_instruction_has_a_footprint() -> None:
    """Units by table: no format is forgotten, and memory formats are memory units."""
    from petitgen.emulator.sanitizer.footprint import _UNITS, MEMORY
    from petitgen.isa.formats import FORMATS

    names = {name.partition("_")[0] if not name.endswith(("_SDWA", "_DPP")) else name.rpartition("_")[2] for name in FORMATS}
    missing = {name for name in names if name not in _UNITS} - {"VOP3B", "ACCVGPR"}
    assert not missing
    assert {_UNITS[n] for n in ("MUBUF", "DS", "SMEM", "FLAT")} <= MEMORY
