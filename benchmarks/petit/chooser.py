"""Which tile Petit takes, and what it refuses. The rule is that of ChooseDefaultFp4Fp16Solution in Petit 0.0.3.

Source: lib/gemm/rocm/quantization/fp4/algo_chooser.cc in Petit's repository, and the checks in lib/pybind/fp4.cc. The
function in the shipped extension module was called for 40 weights of real models and 12 values of M: the same answers.

Of the tiles that divide N and K it takes,

    M <= 64   by rows:  the tile whose half height is nearest to M mod height, |M mod m - m/2|;
              then      more waves along K, fewer columns, then the order below
    M > 64              the most rows and columns together, more rows, a longer K step, more waves along K, N, M

It never looks at the number of compute units. Where two heights are equally near, it depends on the order of a hash
table; that happens for none of the M this benchmark uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from petit.wheel import Kind, Tile

SMALL_M = 64
MACS, LATENCY = 1024, 1500.0  # multiply-adds a clock and compute unit of gfx942; clocks from a load to its use, about


def kind(arch: str, weights: str, activations: str) -> Kind:
    """The family Petit takes by default: "high precision" where compute capability is at most 9.0 (gfx90a)."""
    return Kind(arch, weights, activations, exact=arch == "gfx90a")


def refusal(weights: str, activations: str, n: int, k: int) -> str | None:
    """Why Petit does not multiply by such a weight, or None."""
    if weights == "mxfp4" and activations != "bf16":
        return "MXFP4 goes with bf16 only"
    if k % 256:  # process_*_scales raises
        return f"K = {k} is no multiple of 256"
    if n % 64:  # n % 16 is checked; NVFP4's scales are repacked 64 columns at a time, and what is left is not written
        return f"N = {n} is no multiple of 64"
    return None


def promising(tiles: Iterable[Tile], m: int, n: int, k: int, compute_units: int, count: int) -> list[Tile]:
    """The tiles that a rough estimate ranks first: what an auto-tuner would find its best among.

    Its clocks: rounds over the compute units, each of K / tile.k steps, a step the larger of its matrix instructions
    at half their peak and a step's latency.
    """

    def clocks(tile: Tile) -> float:
        rounds = -(-(-(-m // tile.m) * n // tile.n) // compute_units)
        return rounds * k / tile.k * max(tile.m * tile.n * tile.k / MACS * 2, LATENCY)

    fitting = [tile for tile in tiles if n % tile.n == 0 and k % tile.k == 0]
    return sorted(fitting, key=lambda tile: (clocks(tile), _by_area(tile)))[:count]


def choose(tiles: Iterable[Tile], m: int, n: int, k: int) -> Tile:
    """The tile Petit takes. ValueError when none divides N and K (Petit then throws std::bad_optional_access)."""
    fitting = [tile for tile in tiles if n % tile.n == 0 and k % tile.k == 0]
    if not fitting:
        raise ValueError(f"Petit has no tile for N = {n}, K = {k}")
    if m > SMALL_M:
        return max(fitting, key=_by_area)
    return max(fitting, key=lambda tile: (-abs(m % tile.m - tile.m // 2), tile.waves_k, -tile.n, _by_area(tile)))


def _by_area(tile: Tile) -> tuple[int, ...]:
    return tile.m + tile.n, tile.m, tile.k, tile.waves_k, tile.waves_n, tile.waves_m
