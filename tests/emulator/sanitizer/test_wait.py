"""Waits: each rule is broken by one count, and kept exactly. source of the rules: CDNA3 ISA 4.4, and see wait.py."""

from __future__ import annotations

import pytest

from .programs import findings

LOAD = "global_load_dword v{}, v0, s[2:3]"
BUFFER = "buffer_load_dword v{}, v0, s[8:11], 0 offen"
STORE = "global_store_dword v0, v9, s[2:3]"
READ = "ds_read_b32 v{}, v0"
WRITE = "ds_write_b32 v0, v9"
SCALAR = "s_load_dword s{}, s[2:3], 0x0"
FLAT = "flat_load_dword v{}, v[10:11]"
USE = "v_add_u32_e32 v20, v{}, v{}"


def lines(*parts: str) -> str:
    return "\n".join(parts)


# A program up to the wait, the instruction that needs it, the wait that is just enough and one that is one count short.
JUST = {
    "a load": ([LOAD.format(1)], USE.format(1, 1), "vmcnt(0)", "vmcnt(1)"),
    "the older of two loads": ([LOAD.format(1), BUFFER.format(2)], USE.format(1, 1), "vmcnt(1)", "vmcnt(2)"),
    "the newer of two loads": ([LOAD.format(1), BUFFER.format(2)], USE.format(2, 2), "vmcnt(0)", "vmcnt(1)"),
    "stores count": ([LOAD.format(1), STORE, STORE], USE.format(1, 1), "vmcnt(2)", "vmcnt(3)"),
    "an atomic that returns": (["global_atomic_add v1, v0, v9, s[2:3] GLC", STORE], USE.format(1, 1), "vmcnt(1)", "vmcnt(2)"),
    "an atomic that does not return counts": (
        [LOAD.format(1), "global_atomic_add v0, v9, s[2:3]"], USE.format(1, 1), "vmcnt(1)", "vmcnt(2)"),
    "the first of four registers": (
        ["global_load_dwordx4 v[4:7], v0, s[2:3]", STORE], USE.format(4, 4), "vmcnt(1)", "vmcnt(2)"),
    "the last of four registers": (
        ["global_load_dwordx4 v[4:7], v0, s[2:3]", STORE], USE.format(7, 7), "vmcnt(1)", "vmcnt(2)"),
    "an AGPR": (["global_load_dword a1, v0, s[2:3]", STORE], "v_accvgpr_read_b32 v20, a1", "vmcnt(1)", "vmcnt(2)"),
    "scratch": (["scratch_load_dword v1, v0, off", STORE], USE.format(1, 1), "vmcnt(1)", "vmcnt(2)"),
    "an LDS read": ([READ.format(1), WRITE], USE.format(1, 1), "lgkmcnt(1)", "lgkmcnt(2)"),
    "a permutation": (["ds_bpermute_b32 v1, v0, v9"], USE.format(1, 1), "lgkmcnt(0)", "lgkmcnt(1)"),
    "a scalar load": ([SCALAR.format(4)], "s_add_u32 s20, s4, 1", "lgkmcnt(0)", "lgkmcnt(1)"),
    "a scalar load after LDS": ([READ.format(1), SCALAR.format(4)], "s_add_u32 s20, s4, 1", "lgkmcnt(0)", "lgkmcnt(1)"),
    "a scalar load is out of order": (
        [SCALAR.format(4), SCALAR.format(5)], "s_add_u32 s20, s4, 1", "lgkmcnt(0)", "lgkmcnt(1)"),
    "the clock": (["s_memtime s[4:5]"], "s_add_u32 s20, s4, 1", "lgkmcnt(0)", "lgkmcnt(1)"),
    "a value to store": ([LOAD.format(9), BUFFER.format(2)], STORE, "vmcnt(1)", "vmcnt(2)"),
    "an address": ([LOAD.format(0), STORE.replace("v0", "v8")], READ.format(1), "vmcnt(1)", "vmcnt(2)"),
    "a descriptor": (["s_load_dwordx4 s[8:11], s[2:3], 0x0"], BUFFER.format(1), "lgkmcnt(0)", "lgkmcnt(1)"),
    "a branch on vcc": (["s_load_dwordx2 vcc, s[2:3], 0x0"], "s_cbranch_vccz 4", "lgkmcnt(0)", "lgkmcnt(1)"),
    "an overwritten result": ([LOAD.format(1), STORE], "v_mov_b32_e32 v1, 0", "vmcnt(1)", "vmcnt(2)"),
    "a result overwritten by LDS": ([LOAD.format(1), STORE], READ.format(1), "vmcnt(1)", "vmcnt(2)"),
    "a scalar result overwritten by another": (
        [SCALAR.format(4)], "s_load_dwordx2 s[4:5], s[2:3], 0x0", "lgkmcnt(0)", "lgkmcnt(1)"),
    "a half kept by a 16-bit operation": (
        [LOAD.format(1), STORE], "v_fma_mixhi_f16 v1, v20, v20, v20", "vmcnt(1)", "vmcnt(2)"),
}  # fmt: skip


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
@pytest.mark.parametrize("case", JUST)
def test_one_count_decides(case: str, arch: str) -> None:
    before, use, enough, short = JUST[case]
    before = [line.replace("GLC", "glc" if arch == "gfx90a" else "sc0") for line in before]
    assert findings(arch, lines(*before, f"s_waitcnt {enough}", use)) == []
    found = findings(arch, lines(*before, f"s_waitcnt {short}", use))
    assert [(line, check) for line, check, _ in found] == [(len(before) + 1, "wait")]
    assert enough in found[0][2], "the message says which wait is needed"
    assert len(findings(arch, lines(*before, use))) == 1


def test_flat_needs_both_counters() -> None:
    for waits in ("vmcnt(0)", "lgkmcnt(0)", "vmcnt(0) lgkmcnt(1)", "vmcnt(1) lgkmcnt(0)"):
        found = findings("gfx942", lines(FLAT.format(1), f"s_waitcnt {waits}", USE.format(1, 1)))
        assert [line for line, *_ in found] == [2], waits
    assert findings("gfx942", lines(FLAT.format(1), "s_waitcnt vmcnt(0) lgkmcnt(0)", USE.format(1, 1))) == []
    assert findings("gfx942", lines(FLAT.format(1), "s_waitcnt vmcnt(0)", "s_waitcnt lgkmcnt(0)", USE.format(1, 1))) == []


def test_counts_prove_nothing_behind_a_flat_load() -> None:
    assert findings("gfx942", lines(FLAT.format(1), LOAD.format(2), STORE, "s_waitcnt vmcnt(1)", USE.format(2, 2)))
    # but what was issued before it is older than anything that may be left
    assert not findings("gfx942", lines(LOAD.format(2), STORE, FLAT.format(1), "s_waitcnt vmcnt(1)", USE.format(2, 2)))


def test_scalar_loads_do_not_hide_the_order_of_lds() -> None:
    """At most one operation is left, so the older of two LDS reads is done whatever the scalar load does."""
    program = [READ.format(1), READ.format(2), SCALAR.format(4), "s_waitcnt lgkmcnt(1)"]
    assert not findings("gfx942", lines(*program, USE.format(1, 1)))
    assert findings("gfx942", lines(*program, USE.format(2, 2)))
    assert findings("gfx942", lines(*program, "s_add_u32 s20, s4, 1"))


def test_loads_of_one_kind_may_overwrite_each_other() -> None:
    assert not findings("gfx942", lines(LOAD.format(1), BUFFER.format(1), "s_waitcnt vmcnt(0)", USE.format(1, 1)))
    assert not findings("gfx942", lines(READ.format(1), READ.format(1), "s_waitcnt lgkmcnt(0)", USE.format(1, 1)))
    assert findings("gfx942", lines(LOAD.format(1), BUFFER.format(1), "s_waitcnt vmcnt(1)", USE.format(1, 1)))
    assert findings("gfx942", lines(FLAT.format(1), FLAT.format(1)))


def test_halves_of_a_register_may_be_loaded_in_turn() -> None:
    low, high = ("global_load_short_d16 v1, v0, s[2:3]", "global_load_short_d16_hi v1, v0, s[2:3]")
    assert not findings("gfx942", lines(low, high, "s_waitcnt vmcnt(0)", USE.format(1, 1)))
    assert findings("gfx942", lines("v_mov_b32_e32 v1, 0", low, high.replace("v0,", "v1,")))  # here v1 is the address


def test_a_store_may_still_read_when_its_registers_change() -> None:
    assert not findings("gfx942", lines(STORE, "s_nop 2", "v_mov_b32_e32 v9, 0", WRITE, "v_mov_b32_e32 v9, 0"))


def test_a_full_counter_stalls() -> None:
    """vmcnt counts to 63: the 64th operation cannot be issued before the first is done."""
    assert findings("gfx942", lines(LOAD.format(1), *[STORE] * 62, USE.format(1, 1)))
    assert not findings("gfx942", lines(LOAD.format(1), *[STORE] * 63, USE.format(1, 1)))
    assert findings("gfx942", lines(READ.format(1), *[WRITE] * 14, USE.format(1, 1)))
    assert not findings("gfx942", lines(READ.format(1), *[WRITE] * 15, USE.format(1, 1)))


def test_one_missing_wait_is_one_finding() -> None:
    found = findings("gfx942", lines(LOAD.format(1), USE.format(1, 1), USE.format(1, 1), "s_waitcnt vmcnt(0)", USE.format(1, 1)))
    assert [line for line, *_ in found] == [1]
    assert found[0][2].startswith("reads v1, which `global_load_dword v1, v0, s[2:3]` at +0x0 may not have written yet")
