"""Instructions that change no state an emulator has: hints, waits, cache control, tracing. Nothing may change."""

from __future__ import annotations

import numpy as np
import pytest

from .assembled import Machine

BOTH = """
    s_nop 3
    s_waitcnt vmcnt(0) lgkmcnt(0)
    s_sleep 1
    s_setprio 2
    s_icache_inv
    s_incperflevel 1
    s_decperflevel 1
    s_ttracedata
    s_wakeup
    s_sendmsg sendmsg(MSG_INTERRUPT)
    s_setkill 0
    s_cbranch_cdbgsys 4
    s_cbranch_cdbguser 4
    s_cbranch_cdbgsys_or_user 4
    s_cbranch_cdbgsys_and_user 4
    s_dcache_inv
    s_dcache_wb
    s_dcache_inv_vol
    s_dcache_wb_vol
    ds_nop
    v_nop
    v_nop_e64
    v_clrexcp
    v_clrexcp_e64
    buffer_wbl2
    buffer_invl2
    buffer_wbinvl1
    buffer_wbinvl1_vol
    buffer_inv
"""
ONLY = {"gfx90a": ("buffer_invl2",), "gfx942": ("buffer_inv",)}
LINES = [line.strip() for line in BOTH.strip().splitlines()]


@pytest.mark.parametrize(
    ("arch", "line"),
    [
        pytest.param(arch, line, id=f"{arch}-{line.split()[0]}")
        for arch, other in (("gfx90a", "gfx942"), ("gfx942", "gfx90a"))
        for line in LINES
        if line not in ONLY[other]
    ],
)
def test_nothing_changes(arch: str, line: str) -> None:
    rng = np.random.default_rng(1)
    machine = Machine(arch, waves=2)
    machine.v[:] = rng.integers(0, 1 << 32, machine.v.shape, np.uint32)
    machine.a[:] = rng.integers(0, 1 << 32, machine.a.shape, np.uint32)
    machine.s[:, :102] = rng.integers(0, 1 << 32, (2, 102), np.uint32)
    machine.batch.lds[:] = rng.integers(0, 256, machine.batch.lds.size, np.uint8)
    batch = machine.batch
    before = [part.copy() for part in (machine.v, machine.a, machine.s, batch.lds, batch.scc, batch.mode)]
    machine.run(line)
    after = (machine.v, machine.a, machine.s, batch.lds, batch.scc, batch.mode)
    assert all(np.array_equal(was, now) for was, now in zip(before, after, strict=True))
    assert machine.scheduler is not None
    assert machine.scheduler.executed()[line.split()[0].removesuffix("_e64")] == 2
