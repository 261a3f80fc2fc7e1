"""One GEMM, modelled: Petit's kernel with the tile its chooser takes, and ours as the runtime selects it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from petit import chooser, wheel
from petit.problems import FORMATS
from petitgen.emulator import DeviceMemory
from petitgen.profiler import Launch, Problem, Profile, profile, profile_gemm
from runtime import select, tuned
from runtime.manifest import Manifest

# The modelled devices: compute units. MI300X; MI210 (one die of an MI250X has 110).
COMPUTE_UNITS = {"gfx942": 304, "gfx90a": 104}
TRIED = 6  # tiles of Petit's, where its best is asked for


@dataclass(frozen=True, slots=True)
class Setting:
    """What is compared, and where both come from."""

    arch: str
    weights: str
    activations: str
    compute_units: int
    wheel: Path
    generated: Path
    best: bool = False  # model more of Petit's tiles, too


@dataclass(frozen=True, slots=True)
class Side:
    """One kernel at one problem. Fractions of the documented roofs, as petitgen.profiler.result says.

    us        modelled, with what starting a kernel takes
    limit_us  the same if it only started, moved each operand once at what streams reach of HBM, and multiplied at the
              documented peak: no kernel is faster in this model
    """

    kernel: str
    slices: int
    workgroups: int
    us: float
    bound: str
    hbm: float
    mfma: float
    coverage: float
    waves: int
    in_flight: float
    limit_us: float


@dataclass(frozen=True, slots=True)
class Row:
    """One problem on both sides.

    petit    with the tile its chooser takes;  best: with the fastest of the tiles tried, if asked for
    refused  why Petit does not take it;  failed: what went wrong on either side
    """

    m: int
    n: int
    k: int
    petit: Side | None = None
    ours: Side | None = None
    refused: str = ""
    failed: str = ""
    best: Side | None = None

    @property
    def speedup(self) -> float | None:
        """Petit's time over ours."""
        return self.petit.us / self.ours.us if self.petit and self.ours else None

    @property
    def speedup_limit(self) -> float | None:
        """Petit's time over that of a kernel which is all that the model allows."""
        return self.petit.us / self.ours.limit_us if self.petit and self.ours else None

    @property
    def speedup_best(self) -> float | None:
        """The time of Petit's best tile over ours."""
        return self.best.us / self.ours.us if self.best and self.ours else None


@lru_cache(maxsize=1)
def petit_of(path: Path) -> wheel.Petit:
    """The wheel, read once a process."""
    return wheel.read(path)


@lru_cache(maxsize=4)
def ours_of(generated: Path, arch: str, compute_units: int) -> tuple[Manifest, tuned.Table]:
    """Our kernels and the table of tuned choices, read once a process."""
    return Manifest.load(generated / arch), tuned.load(arch, compute_units)


def model(setting: Setting, shape: tuple[int, int, int]) -> Row:
    """Model both sides of a problem (M, N, K). What goes wrong is in the row."""
    m, n, k = shape
    refused = chooser.refusal(setting.weights, setting.activations, n, k) or ""
    petit = ours = best = None
    failed = ""
    try:
        ours = our_side(setting, shape)
        if not refused:
            tried = {tile: petit_side(setting, shape, tile) for tile in petit_tiles(setting, shape)}
            petit = next(iter(tried.values()))
            best = min(tried.values(), key=lambda side: side.us) if setting.best else None
    except Exception as error:  # one problem must not take the run with it; the report says so and fails
        failed = f"{type(error).__name__}: {error}"
    return Row(m, n, k, petit, ours, refused, failed, best)


def work(setting: Setting, shape: tuple[int, int, int]) -> Problem:
    """What no kernel can avoid: the multiplications, and each operand moved once."""
    m, n, k = shape
    weights = n * k / 2 + n * k / FORMATS[setting.weights].block
    return Problem("gemm " + "x".join(map(str, shape)), 2.0 * m * n * k, 2.0 * (m * k + m * n) + weights)


def petit_tiles(setting: Setting, shape: tuple[int, int, int]) -> list[wheel.Tile]:
    """The tile Petit's chooser takes, and with `setting.best` others that may be faster."""
    tiles = petit_of(setting.wheel).gemms[chooser.kind(setting.arch, setting.weights, setting.activations)]
    default = chooser.choose(tiles, *shape)
    others = chooser.promising(tiles, *shape, setting.compute_units, TRIED) if setting.best else []
    return list(dict.fromkeys([default, *others]))


def petit_side(setting: Setting, shape: tuple[int, int, int], tile: wheel.Tile) -> Side:
    """Petit's, with one tile."""
    m, n, k = shape
    kind = chooser.kind(setting.arch, setting.weights, setting.activations)
    entry = petit_of(setting.wheel).gemms[kind][tile]
    memory = DeviceMemory()
    sizes = (2 * m * n, 2 * m * k, n * k // 2, n * k // FORMATS[setting.weights].block, 4)
    c, a, codes, scales, outer = (memory.allocate(size) for size in sizes)
    arguments = (c, a, codes, scales, outer, *map(np.uint32, (m, n, k)))
    launch = Launch(entry.code, entry.symbol, arguments, tile.grid(m, n), tile.block, memory=memory, warm=(a,))
    found = profile(launch, setting.arch, problem=work(setting, shape), compute_units=setting.compute_units)
    return _side(str(tile), 1, found)


def our_selection(setting: Setting, shape: tuple[int, int, int]) -> select.Selection:
    """What the runtime launches on the modelled device."""
    m, n, k = shape
    manifest, table = ours_of(setting.generated, setting.arch, setting.compute_units)
    problem = select.problem_of(f"gemm_{setting.weights}_{setting.activations}", m, n, k, None, None)
    return select.choose(manifest.kernels.values(), problem, setting.arch, setting.compute_units, table)


def our_side(setting: Setting, shape: tuple[int, int, int]) -> Side:
    """Ours."""
    chosen = our_selection(setting, shape)
    directory = setting.generated / setting.arch
    found = profile_gemm(
        chosen.kernel,
        directory,
        *shape,
        slices=chosen.slices,
        arch=setting.arch,
        compute_units=setting.compute_units,
    )
    return _side(chosen.kernel.name, chosen.slices, found)


def _side(kernel: str, slices: int, found: Profile) -> Side:
    return Side(
        kernel=kernel,
        slices=slices,
        workgroups=found.workgroups,
        us=found.time_us,
        bound=found.bound,
        hbm=found.hbm_fraction or 0.0,
        mfma=found.mfma_fraction or 0.0,
        coverage=found.cu_coverage,
        waves=found.waves_per_simd,
        in_flight=found.bytes_in_flight_mean,
        limit_us=found.launch_us + _work_us(found),
    )


def _work_us(found: Profile) -> float:
    roof, problem = found.roofline, found.problem
    assert problem is not None, found.kernel
    return max(problem.bytes / roof.hbm_achievable, problem.flops / roof.mfma_peak)
