"""Every kernel of an architecture, built with each compiler that is there, and what its code says without running it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import loops
from petit.loopfigures import SMALLEST_MATRIX
from petit.turns import FirstWave, longest_turn

from petitgen.build.run import build
from petitgen.emulator import launch
from petitgen.errors import ToolchainError
from petitgen.isa import CodeObject, Instruction
from petitgen.profiler import gemm_launch
from petitgen.spec import load_catalog
from petitgen.spec.model import Tile
from petitgen.toolchain import Choice, choose
from runtime.formats import BRICK_N, FORMATS, LANES
from runtime.manifest import Kernel, Manifest

COMPILERS = ("hipcc", "clang-19", "ziglang")  # in the order in which `petitgen build` looks for them
CHUNKS = 5  # of A along K that a resident loop is run through: three turns of the same kind are enough


@dataclass(frozen=True, slots=True)
class Built:
    """All kernels of one architecture by one compiler. label: "clang 19"; failed: (name, why)."""

    label: str
    version: str
    root: Path  # holds <arch>/manifest.json
    manifest: Manifest
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One kernel by one compiler.

    figures   of its hot loop: for a resident loop the innermost, over stages of weights
    apart     resident: A is staged outside that loop
    with_a    resident: VALU instructions for 8 weights of a turn over a chunk of A, its staging included
    in_flight bytes of packed weights on their way to a full CU when every wave has asked for all of its stages
    """

    compiler: str
    name: str
    contract: str
    loop: str
    tile: Tile
    figures: loops.Figures
    apart: bool
    with_a: float | None
    in_flight: int


def builds(arch: str, directory: Path, jobs: int | None, say: Callable[[str], None]) -> list[Built]:
    """One for each major version of clang among COMPILERS, in their order. SystemExit when there is none."""
    catalog = load_catalog()
    found: dict[str, Built] = {}
    for name in COMPILERS:
        choice = _compiler(arch, name)
        label = _label(choice.selected.version) if choice else ""
        if choice is None or label in found:
            continue
        say(f"building with {choice.selected.version}")
        root = directory / label.replace(" ", "-")
        report = build(catalog.select([], arch), catalog.instances, root, hipcc=name, jobs=jobs)
        failed = tuple((one.name, one.error.strip().splitlines()[-1]) for one in report.failed)
        found[label] = Built(label, choice.selected.version, root, Manifest.load(root / arch), failed)
    if not found:
        raise SystemExit(f"no compiler for {arch} among {', '.join(COMPILERS)}: pip install ziglang")
    return list(found.values())


def _compiler(arch: str, name: str) -> Choice | None:
    try:
        return choose(arch, name)
    except ToolchainError:
        return None


def _label(version: str) -> str:
    found = re.search(r"clang version (\d+)", version)
    return f"clang {found[1]}" if found else version


def measure(built: Built, arch: str) -> Iterator[Measured]:
    """Every kernel of a build."""
    for instance in load_catalog().gemms:
        kernel = built.manifest.kernels.get(instance.name)
        if kernel is None or instance.arch.name != arch:
            continue
        tile, code = instance.tile, CodeObject.load(built.manifest.path(kernel))
        rows = max(tile.m, SMALLEST_MATRIX) // tile.waves_m
        resident = tile.loop == "resident"
        executed = _executed(code, kernel, tile) if resident else []
        loop = _usual_loop(executed) if resident else None
        figures = loops.measure(code, kernel.symbol, rows, mca=not resident, loop=loop)
        if figures is None:
            raise SystemExit(f"{kernel.name}: no loop found in what {built.label} made of it")
        yield Measured(
            compiler=built.label,
            name=kernel.name,
            contract=instance.contract,
            loop=tile.loop,
            tile=tile,
            figures=figures,
            apart=resident and tile.k > tile.stages * tile.stage_k,
            with_a=_with_a(code, kernel, rows, executed) if resident else None,
            in_flight=in_flight(tile, instance.weights.name, figures.waves),
        )


def _executed(code: CodeObject, kernel: Kernel, tile: Tile) -> list[Instruction]:
    """What the first wave executes with ordinary data, of which zeros are some."""
    watch = FirstWave()
    run = gemm_launch(kernel, code, tile.m, tile.n, CHUNKS * tile.k)
    launch(code, kernel.symbol, 1, run.block, run.args, memory=run.memory, observer=watch)
    return watch.executed


def _usual_loop(executed: Sequence[Instruction]) -> list[Instruction]:
    """The hot loop, not one of a pass for rare numbers."""
    return loops.hot_loop(sorted({one.pc: one for one in executed}.values(), key=lambda one: one.pc))


def _with_a(code: CodeObject, kernel: Kernel, rows: int, executed: Sequence[Instruction]) -> float | None:
    """Of what was executed, for a part of the staging may be skipped or is done by some waves only."""
    found = loops.measure(code, kernel.symbol, rows, mca=False, loop=longest_turn(executed))
    return found.valu_per_8 if found else None


def in_flight(tile: Tile, weights: str, waves_per_simd: int) -> int:
    """Codes and scales in the rings of all waves of a CU that holds as many whole workgroups as fit."""
    columns = tile.n // tile.waves_n // BRICK_N
    brick = LANES * 16 + BRICK_N * FORMATS[weights].scales_per_brick
    stage = columns * (brick if tile.loop == "resident" else brick // 2)
    waves = waves_per_simd * loops.SIMDS // tile.waves * tile.waves
    return tile.stages * stage * waves
