"""A profile made by hand, for what is shown of profiles: every figure is known, none comes from the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from petitgen.profiler.result import (
    Bound,
    ClassUse,
    Event,
    Hot,
    Occupancy,
    Problem,
    Profile,
    Roofline,
    Stall,
    Traffic,
)

FLOPS, BYTES = 2.0 * 16 * 8192 * 8192, 16 * 8192 * 2.0 * 2 + 8192 * 8192 * 9 / 16

# A wave of this sample: 4 clocks of each instruction's issue, then its stall.
PROGRAM = (
    (0x10, "buffer_load_dwordx4 v[4:7], v1, s[8:11], s20 offen", "VMEM", "vmem busy", 12),
    (0x18, "s_waitcnt vmcnt(2)", "wait", "vmem wait", 60),
    (0x1C, "v_and_b32_e32 v8, 0x8e008e00, v4", "VALU", "valu busy", 4),
    (0x24, "v_mfma_f32_16x16x16_bf16 v[20:23], v[8:9], v[12:13], 0", "MFMA", "mfma result", 16),
    (0x2C, "s_barrier", "barrier", "barrier", 20),
)


def timeline(simds: int = 4, slots: int = 3, loops: int = 40) -> tuple[Event, ...]:
    """Waves that each run PROGRAM `loops` times, each a few clocks later than the one before."""
    events = []
    for lane in range(simds * slots):
        simd, slot = lane % simds, lane // simds
        clock = 8 * lane
        for _ in range(loops):
            for pc, _, name, cause, stall in PROGRAM:
                for state, length in (("issue", 4), (cause, stall)):
                    events.append(Event(simd, slot, slot, simd, clock, clock + length, state, name, pc))
                    clock += length
    return tuple(sorted(events, key=lambda event: event.start))


def hot(loops: int = 480) -> tuple[Hot, ...]:
    """Hot instructions of `loops` runs through PROGRAM."""
    found = [
        Hot(pc, text, name, "kernel.hip:7", loops, 1.0 * loops * (4 + stall), ((cause, 1.0 * loops * stall),))
        for pc, text, name, cause, stall in PROGRAM
    ]
    return tuple(sorted(found, key=lambda one: -one.clocks))


def profile(**changes: Any) -> Profile:
    """A decode GEMM that is bound by HBM: 20 of 132 wave-clocks issue."""
    total = sum(4 + stall for *_, stall in PROGRAM)
    stalls = sorted(((cause, 480.0 * stall, stall / total) for *_, cause, stall in PROGRAM), key=lambda s: -s[1])
    made = Profile(
        kernel="gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2",
        arch="gfx942",
        product="MI300X",
        compute_units=304,
        clock_mhz=2100.0,
        grid=(128, 1, 4),
        block=256,
        problem=Problem("gemm 16x8192x8192", FLOPS, BYTES),
        time_us=10.0,
        launch_us=2.0,
        clocks=16800.0,
        bound="HBM",
        bounds=(Bound("HBM", 8.0, 0.8), Bound("VALU", 3.0, 0.3), Bound("MFMA", 1.7, 0.17)),
        hbm_fraction=0.9,
        mfma_fraction=0.205,
        cu_coverage=1.0,
        cu_balance=0.84,
        rounds=1,
        workgroups=512,
        occupancy=Occupancy(4, 4, 1.7, "registers", 106, 32768, 0),
        bytes_in_flight_mean=36864.0,
        bytes_in_flight_peak=49152,
        memory_latency=1200.0,
        issue_share=20 / total,
        stalls=tuple(Stall(*one) for one in stalls),
        classes=(ClassUse("VALU", 480, 1920.0, 0.36), ClassUse("MFMA", 480, 7680.0, 0.2)),
        hot=hot(),
        traffic=Traffic(1e8, 0.0, 6e7, 5e7, 4.5e7, 4e7, 0.0, 0.1, 0.25, 0.0),
        roofline=Roofline(5.3e6, 4.3e6, 1.3074e9, FLOPS / BYTES, FLOPS / 8.0),
        timeline=(),
        notes=("Weights are cold: they come from device memory.",),
        seconds=0.4,
    )
    return replace(made, **changes)
