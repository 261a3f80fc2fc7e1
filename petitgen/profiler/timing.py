"""The parameters of the model, from `timing` in configs/archs.yaml; each figure's source stands beside it there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from petitgen.errors import ProfileError
from petitgen.paths import CONFIGS
from petitgen.spec.reader import read


@dataclass(frozen=True, slots=True)
class Timing:
    """One device. Latencies and `_clocks` in clocks of the CU, rates a CU unless they say otherwise.

    hbm_gbps, mall_gbps  documented peaks, GB/s;  hbm_efficiency, mall_efficiency: what streams reach of them
    l2_bytes, l2_bytes_per_clock  of one XCD
    vmem_queue_clocks, lds_queue_clocks  work a path takes on before it refuses the next instruction
    burst_clocks         for so long a CU may still use bandwidth that it left of its share
    mfma_issue_clocks    of the VALU's issue port that a matrix instruction takes
    never_coissue        patterns of VALU instructions (and the class "trans") that wait for the matrix unit
    mfma_passes          (pattern, passes of four clocks)
    """

    device: str
    compute_units: int
    xcds: int
    clock_mhz: int
    hbm_gbps: int
    hbm_efficiency: float
    hbm_latency: int
    mall_bytes: int
    mall_gbps: int
    mall_efficiency: float
    mall_latency: int
    l2_bytes: int
    l2_line: int
    l2_bytes_per_clock: int
    l2_latency: int
    l1_bytes: int
    l1_line: int
    l1_bytes_per_clock: int
    l1_latency: int
    vmem_lanes_per_clock: int
    vmem_queue_clocks: int
    lds_bytes_per_clock: int
    lds_latency: int
    lds_queue_clocks: int
    smem_latency: int
    burst_clocks: int
    issue_clocks: int
    valu_latency: int
    trans_clocks: int
    convert_clocks: int
    mfma_issue_clocks: int
    branch_clocks: int
    icache_bytes: int
    wave_launch_clocks: int
    launch_us: float
    never_coissue: tuple[str, ...]
    mfma_passes: tuple[tuple[str, int], ...]

    @property
    def hbm_bytes_per_clock(self) -> float:
        """What streams reach, of the device."""
        return self.hbm_gbps * 1e3 * self.hbm_efficiency / self.clock_mhz

    @property
    def mall_bytes_per_clock(self) -> float:
        """What streams reach, of the device; 0 without an Infinity Cache."""
        return self.mall_gbps * 1e3 * self.mall_efficiency / self.clock_mhz

    def passes(self, mnemonic: str) -> int:
        """Passes of four clocks that a matrix instruction takes. ProfileError if no pattern knows it."""
        for pattern, passes in self.mfma_passes:
            if fnmatchcase(mnemonic, pattern):
                return passes
        raise ProfileError(f"{mnemonic}: configs/archs.yaml, timing: mfma_passes does not say how long it takes")


def load_timing(arch: str, compute_units: int | None = None, configs: Path | None = None) -> Timing:
    """The device that `arch` stands for, with another number of compute units if one is given.

    ProfileError for an architecture without timing parameters and for a number of units that the XCDs cannot have.
    """
    known = _read(CONFIGS if configs is None else configs)
    if arch not in known:
        raise ProfileError(f"no timing parameters for {arch!r}; configs/archs.yaml has them for {', '.join(known)}")
    timing = known[arch]
    if compute_units is None:
        return timing
    if compute_units < timing.xcds:
        raise ProfileError(f"{compute_units} compute units: {timing.device} has {timing.xcds} XCDs with at least one")
    return replace(timing, compute_units=compute_units)


@lru_cache
def _read(configs: Path) -> dict[str, Timing]:
    facts = read(configs / "archs.yaml", "archs")["timing"]
    return {name: _timing(one) for name, one in facts.items()}


def _timing(facts: dict[str, object]) -> Timing:
    frozen = {k: tuple(tuple(i) if isinstance(i, list) else i for i in v) if isinstance(v, list) else v
              for k, v in facts.items()}  # fmt: skip
    return Timing(**frozen)  # type: ignore[arg-type]
