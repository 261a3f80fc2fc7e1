"""Right results first: every kernel that either side takes is run on the emulated device and held against float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from petit import chooser, problems
from petit.sides import Setting, our_selection, ours_of, petit_of, petit_tiles
from petit.wheel import Tile
from petitgen.errors import PetitgenError
from runtime.errors import RuntimeLibraryError
from runtime.manifest import Kernel

K = 1024  # a multiple of every K step
SLICES = 3  # of ours that split K: no power of two, so that slices differ


@dataclass(frozen=True, slots=True)
class Check:
    """One kernel at one small problem. wrong: empty, or what is."""

    kernel: str
    m: int
    n: int
    k: int
    slices: int
    wrong: str


@dataclass(frozen=True, slots=True)
class Used:
    """The kernels a run takes: Petit's tiles; ours, with whether any problem has it in several slices."""

    tiles: tuple[Tile, ...]
    kernels: tuple[tuple[Kernel, bool], ...]


def used(setting: Setting, shapes: Sequence[tuple[int, int, int]]) -> Used:
    """Every kernel that either side takes for these problems, in the order of the problems."""
    tiles: dict[Tile, None] = {}
    kernels: dict[str, tuple[Kernel, bool]] = {}
    for m, n, k in shapes:
        if chooser.refusal(setting.weights, setting.activations, n, k) is None:
            tiles.update(dict.fromkeys(petit_tiles(setting, (m, n, k))))
        chosen = our_selection(setting, (m, n, k))
        split = chosen.slices > 1 or kernels.get(chosen.kernel.name, (None, False))[1]
        kernels[chosen.kernel.name] = chosen.kernel, split
    return Used(tuple(tiles), tuple(kernels.values()))


def check(setting: Setting, kernels: Used) -> Iterator[Check]:
    """One of Petit's tiles, or one of our kernels, after the other. The tolerance is our kernels' own, for both."""
    tolerance = next(kernel.tolerance for kernel, _ in kernels.kernels)
    for tile in kernels.tiles:
        gemm = problems.make(setting.weights, setting.activations, tile.m - 3, math.lcm(tile.n, 64), K)
        try:
            got = problems.petit_result(petit_of(setting.wheel), setting.arch, gemm, tile)
            wrong = str(problems.wrong(gemm, got, tolerance) or "")
        except (PetitgenError, RuntimeLibraryError) as error:
            wrong = str(error)
        yield Check(f"Petit {tile}", *gemm.shape, 1, wrong)
    manifest, _ = ours_of(setting.generated, setting.arch, setting.compute_units)
    for kernel, split in kernels.kernels:
        tile_m, tile_n = kernel.tile["m"], kernel.tile["n"]
        gemm = problems.make(setting.weights, setting.activations, max(1, tile_m - 3), tile_n + 16, K)
        slices = SLICES if split else 1
        try:
            got = problems.our_result(kernel, manifest.path(kernel), setting.arch, gemm, slices)
            wrong = str(problems.wrong(gemm, got, kernel.tolerance) or "")
        except (PetitgenError, RuntimeLibraryError) as error:
            wrong = str(error)
        yield Check(kernel.name, *gemm.shape, slices, wrong)
