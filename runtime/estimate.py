"""How long a kernel takes, estimated from the manifest's facts and the number of compute units: for comparing only.

The busiest compute unit gets share = ceil(tiles * slices / compute units) workgroups, each with `depth` elements of K.
It works on the following, in clocks:

    matrix       share * tile.m * tile.n * depth / MACS         matrix instructions, padding included; FP8: half of it, but
                                                                for NVFP4 weights (docs/kernels.md)
    decoding     share * tile.n * depth / DECODED               codes made numbers of the activations' type by the vector ALUs
    weights      the larger of   N * K * BYTES_W / (HBM * compute units)           the bandwidth of the device
                           and   share * tile.n * depth * BYTES_W / (bytes in flight / LATENCY)
    activations  share * tile.m * depth * BYTES_A / L2          which its neighbours read, too
    partial sums share * tile.m * tile.n * 8 / L2               written and read, where slices share a tile

The longest of them counts in full, of the others one part in HIDDEN: they overlap, but never wholly. To that comes
LATENCY for each round of as many workgroups as fit at once, and MEETING where slices wait for one another. So large
tiles win by reading less, until they leave compute units idle or make rows that are not there, and slices win where
tiles alone are too few.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.errors import ShapeError
from runtime.manifest import Kernel
from runtime.memory import ITEM_SIZES
from runtime.workspace import FEWEST_ROWS, most_slices, splits, tiles

# Multiply-adds a clock and compute unit: four SIMDs, a 16x16x16 MFMA in 16 clocks (gfx942) or 32 (gfx90a).
# Source: AMD matrix instruction calculator, v_mfma_f32_16x16x16_f16.
MACS: Mapping[str, int] = types.MappingProxyType({"gfx90a": 512, "gfx942": 1024})
# Bytes a clock and compute unit. HBM: 1.6 TB/s, 110 CUs, 1.7 GHz (one MI250X die) and 5.3 TB/s, 304 CUs, 2.1 GHz
# (MI300X) both give 8. L2: 64, CDNA3 white paper.
HBM, L2 = 8.0, 64.0
BYTES_W = 0.5 + 1 / 16  # a 4-bit code and its share of a scale
FP8 = "fp8"  # of weights and of activations: a byte each
DECODED = 32  # codes a clock and compute unit: four SIMDs of 16 lanes, some 16 instructions for 8 codes
LATENCY = 2000  # clocks from asking device memory under load to having it: some 0.9 us
MEETING = 4000  # clocks to write partial sums out, count, and read those of the others: two trips and an atomic
HIDDEN = 4
SIMDS = 4  # of a compute unit
ROUNDS = 3  # of a device full of workgroups that share tiles
SLICES = (*range(1, 9), *range(10, 17, 2), *range(20, 33, 4), 40)  # what is tried


@dataclass(frozen=True, slots=True)
class Estimate:
    """clocks of the whole launch; workgroups, and the rounds in which the compute units work through them."""

    clocks: float
    workgroups: int
    rounds: int


def residents(kernel: Kernel) -> int:
    """Workgroups that fit on a compute unit at once."""
    waves = -(-kernel.block // kernel.resources.wave_size)
    return max(1, kernel.resources.waves_per_simd * SIMDS // waves)


def slice_counts(kernel: Kernel, m: int, n: int, k: int, compute_units: int) -> Iterator[int]:
    """Numbers of slices worth a thought: all have work, and no more workgroups than a few rounds of the device. More
    than one round can be right for large tiles, too: 224 tiles leave a quarter of 304 compute units idle, 896 none."""
    yield 1
    if not splits(kernel):
        return
    units, groups = most_slices(kernel, k), tiles(kernel, m, n)
    for slices in SLICES[1:]:
        if slices > units or groups * slices > ROUNDS * residents(kernel) * compute_units:
            return
        if -(-units // -(-units // slices)) == slices:  # a smaller number gives no slice less to do
            yield slices


def estimate(
    kernel: Kernel, m: int, n: int, k: int, slices: int, arch: str, compute_units: int, weights: int = 1
) -> Estimate:
    """By the rule above. Sizes in elements. weights: matrices of N x K that are read, each by its share of the rows.
    ShapeError for sizes below 1."""
    rows, columns, unit = kernel.tile["m"], kernel.tile["n"], kernel.tile["unit"]
    if m < 1 or n < 1 or k < 1:
        raise ShapeError(f"M = {m}, N = {n}, K = {k}: sizes start at 1")
    groups = tiles(kernel, m, n) * slices
    share = -(-groups // compute_units)
    together = min(share, residents(kernel))
    units = -(-k // unit)
    depth = min(-(-units // slices) * unit, k)
    of_w, of_a = 1.0 if kernel.weights == FP8 else BYTES_W, ITEM_SIZES[kernel.activations]
    in_flight = together * kernel.tile.get("stages", 1) * unit * columns * of_w
    decoded = share * columns * depth if kernel.weights != kernel.activations else 0
    times = (
        share * max(rows, FEWEST_ROWS) * columns * depth / MACS[arch] * (0.5 if _doubled(kernel) else 1.0),
        decoded / DECODED,
        max(weights * n * k * of_w / (HBM * compute_units), share * columns * depth * of_w * LATENCY / in_flight),
        share * rows * depth * of_a / L2,
        share * max(rows, FEWEST_ROWS) * columns * 8 / L2 if slices > 1 else 0.0,
    )
    longest, rounds = max(times), -(-share // together)
    clocks = longest + (sum(times) - longest) / HIDDEN + rounds * LATENCY + (MEETING if slices > 1 else 0)
    return Estimate(clocks, groups, rounds)


def _doubled(kernel: Kernel) -> bool:
    """Does it multiply at the rate of FP8? With NVFP4 half of an instruction takes in zeros, or operands are fp16."""
    return kernel.activations == FP8 and kernel.weights != "nvfp4"
