"""What makes a tile possible. Each rule is one line: when it fails, what it says."""

from __future__ import annotations

from petitgen.errors import SpecError
from petitgen.spec.model import Arch, Tile
from runtime.formats import BRICK_K

WIDENED = ("nvfp4",)  # weights that activations of a byte are widened for: their codes and scales are multiplied as fp16


def check_tile(tile: Tile, arch: Arch, where: str, size: int = 2, weights: str = WIDENED[0]) -> None:
    """SpecError, starting with `where`, if the GEMM skeleton cannot make this tile on `arch`. size: bytes of an activation."""
    for broken, message in (*_widen(tile, size, weights), *_RULES[tile.loop](tile, arch, 2 if tile.widen else size)):
        if broken:
            raise SpecError(f"{where}: {message}")


def _widen(t: Tile, size: int, weights: str) -> list[tuple[bool, str]]:
    needed = t.loop == "streamed" and size == 1 and weights in WIDENED
    return [
        (bool(t.widen) and not needed, f"widen: only a streamed loop widens, FP8 activations of {', '.join(WIDENED)} weights"),
        (needed and not t.widen, f"widen: fp16 is needed of a streamed loop with FP8 activations and {weights} weights"),
    ]


def _resident(t: Tile, arch: Arch, size: int) -> list[tuple[bool, str]]:
    threads, turn = t.waves * arch.wave_size, t.stages * t.stage_k
    rows = max(t.m, 16)
    lds = max(rows * t.k * size, t.waves_k * rows * t.n * 4 + rows * 4)
    return [
        (t.m not in (4, 8, 16, 32, 64), f"m: {t.m} is not allowed with a resident loop; 4, 8, 16, 32 and 64 are"),
        (t.waves_m != 1, f"waves: {t.waves_m} along m; a resident loop has one"),
        (t.mfma != 16, f"mfma: {t.mfma} is not allowed with a resident loop; 16 is"),
        (t.n % (t.waves_n * 16) != 0, f"n: {t.n} is no multiple of waves n x mfma = {t.waves_n * 16}"),
        (t.n // t.waves_n > 64, f"n: {t.n // t.waves_n} columns a wave; offsets of a load reach 64"),
        (t.k % turn != 0, f"k: {t.k} is no multiple of {turn}, what a turn of the loop takes"),
        (threads > 1024, f"waves: {t.waves} waves are {threads} work-items; a workgroup has 1024 at most"),
        (
            threads % t.m != 0 or t.k % (16 // size * threads // t.m) not in (0, t.k),
            f"m x k: {t.m} x {t.k} of A does not divide into 16 bytes for each of {threads} work-items",
        ),
        (lds > arch.lds_bytes, f"m x k, m x n: {lds} bytes of LDS are needed; {arch.name} has {arch.lds_bytes}"),
        *_occupancy(t, arch, lds),
    ]


def _occupancy(t: Tile, arch: Arch, lds: int) -> list[tuple[bool, str]]:
    return [
        (
            not 1 <= t.occupancy <= arch.max_waves_per_simd,
            f"occupancy: {t.occupancy} is not allowed; 1 to {arch.max_waves_per_simd} is",
        ),
        (
            lds <= arch.lds_bytes and t.occupancy * arch.simds > arch.lds_bytes // lds * t.waves,
            f"occupancy: {t.occupancy} waves a SIMD do not fit: with {lds} bytes of LDS a workgroup, a CU holds "
            f"{arch.lds_bytes // lds} of {t.waves} waves",
        ),
    ]


def _streamed(t: Tile, arch: Arch, size: int) -> list[tuple[bool, str]]:
    threads = t.waves * arch.wave_size
    depth = BRICK_K // size
    passes = threads // (t.k * size // 16)  # rows of A that are loaded at once, 16 bytes a work-item
    lds = 2 * t.m * t.k * size
    accumulators = t.m * t.n // (t.waves_m * t.waves_n * arch.wave_size)
    return [
        (t.k != depth, f"k: {t.k} is not allowed with a streamed loop; {depth} is, {BRICK_K} bytes of a row"),
        (t.waves_k != 1, f"waves: {t.waves_k} along k; a streamed loop has one"),
        (t.mfma != 32, f"mfma: {t.mfma} is not allowed with a streamed loop; 32 is"),
        (t.m % (t.waves_m * t.mfma) != 0, f"m: {t.m} is no multiple of waves m x mfma = {t.waves_m * t.mfma}"),
        (t.m // t.waves_m < 64, f"m: {t.m // t.waves_m} rows a wave; a streamed loop has 64 at least"),
        (t.n % (t.waves_n * t.mfma) != 0, f"n: {t.n} is no multiple of waves n x mfma = {t.waves_n * t.mfma}"),
        (t.n // t.waves_n > 64, f"n: {t.n // t.waves_n} columns a wave; offsets of a load reach 64"),
        (threads > 1024, f"waves: {t.waves} waves are {threads} work-items; a workgroup has 1024 at most"),
        (
            passes % 8 != 0 or t.m % passes != 0,
            f"m x k: {t.m} x {t.k} of A does not divide into 16 bytes for each of {threads} work-items",
        ),
        (
            accumulators > arch.registers // max(t.occupancy, 1) // 2,
            f"m x n: {t.m} x {t.n} over {t.waves_m} x {t.waves_n} waves needs {accumulators} accumulators a lane; with "
            f"occupancy {t.occupancy} at most half of {arch.registers // max(t.occupancy, 1)} registers can be",
        ),
        (lds > arch.lds_bytes, f"m x k: two buffers of A need {lds} bytes of LDS; {arch.name} has {arch.lds_bytes}"),
        (t.stages % 2 != 0, f"stages: {t.stages} is odd: halves of bricks and LDS buffers could not alternate"),
        (
            size == 1 and t.a_ahead >= t.stages,
            f"a_ahead: {t.a_ahead} is not below the {t.stages} stages; with activations of a byte one stage is being used",
        ),
        (t.stages % t.a_ahead != 0, f"a_ahead: {t.a_ahead} does not divide the {t.stages} steps of a turn"),
        *_occupancy(t, arch, lds),
    ]


_RULES = {"resident": _resident, "streamed": _streamed}
