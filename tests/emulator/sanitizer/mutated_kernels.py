"""The kernels that lines are taken out of, and launches of them that execute all of their code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from petitgen.emulator import DeviceMemory, LaunchResult, Observer, launch
from petitgen.emulator.sanitizer import Sanitizer
from petitgen.isa import CodeObject
from petitgen.render import render
from petitgen.spec import load_catalog
from petitgen.spec.model import GemmInstance
from runtime.descriptors import buffer_resource

FOLDER = Path(__file__).parent
PRELUDE = FOLDER.parent / "kernels" / "prelude.h"
Watch = Callable[[Sequence[bytes]], Observer]  # given the descriptors that may be left
Launches = Callable[[CodeObject, str, Watch], Iterator[LaunchResult]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A kernel to take lines out of."""

    name: str
    source: Callable[[str], tuple[str, str]]  # arch -> (kernel symbol, HIP text)
    launches: Launches  # one or more, each made when it is asked for


# --- plain HIP -------------------------------------------------------------------------------------------


def random(count: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(count).standard_normal(count).astype(dtype)


def _arguments(name: str) -> tuple[int, int, list[object]]:
    """Grid, block and arguments."""
    u32, zeros = np.uint32, np.zeros
    match name:
        case "transpose":
            return 2, 256, [random(4096), zeros(4096, np.float32), u32(2)]
        case "reduce":
            return 1, 256, [random(700), zeros(4, np.float32), u32(700)]
        case "histogram":
            values = np.random.default_rng(1).integers(0, 64, 700).astype(u32)
            return 1, 256, [values, np.arange(8, dtype=u32), zeros(64, u32), zeros(1, u32), u32(700)]
        case "softmax":
            return 1, 256, [random(512), zeros(512, np.float32), u32(2)]
        case "matrix":
            halves = [random(768, np.float16) for _ in range(2)]
            return 1, 64, [*halves, zeros(256, np.float32), u32(3)]
    raise KeyError(name)


def plain(name: str) -> Subject:
    """A kernel of kernels/."""

    def source(arch: str) -> tuple[str, str]:
        return name, PRELUDE.read_text() + (FOLDER / "kernels" / f"{name}.hip").read_text()

    def launches(code: CodeObject, kernel: str, watch: Watch) -> Iterator[LaunchResult]:
        grid, block, arguments = _arguments(name)
        yield _launch(code, kernel, grid, block, arguments, watch([]))

    return Subject(name, source, launches)


def _launch(code: CodeObject, kernel: str, grid: object, block: int, arguments: object, watch: Observer,
            memory: DeviceMemory | None = None) -> LaunchResult:  # fmt: skip
    how = {"sanitize": watch} if isinstance(watch, Sanitizer) else {"observer": watch}
    return launch(code, kernel, grid, block, arguments, memory=memory, limit=2_000_000, **how)  # type: ignore[arg-type]


EPILOGUE = ("bias", "residual", "ldr", "options")


# --- ours ------------------------------------------------------------------------------------------------


def gemm(weights: str, activations: str, tile: str) -> Subject:
    """A GEMM of the matrix, by types and tile, at two shapes: one workgroup, and four with tails everywhere and two
    slices. Without an epilogue, which is as much code again, for launches of its own."""

    def instance(arch: str) -> GemmInstance:
        (found,) = (
            one
            for one in load_catalog().gemms
            if (one.arch.name, one.weights.name, one.activations.name) == (arch, weights, activations)
            and one.name.endswith(f"_{tile}")
        )
        return replace(found, abi=tuple(argument for argument in found.abi if argument.name not in EPILOGUE))

    def launches(code: CodeObject, kernel: str, watch: Watch) -> Iterator[LaunchResult]:
        one = instance(code.arch)
        k = one.tile.stages * one.tile.stage_k
        for shape, slices in (
            ((one.tile.m, one.tile.n - 1, 2 * k, 1), 1),
            ((one.tile.m + 1, one.tile.n + 8, k + 32, 8), 2),
        ):
            yield _gemm(code, one, shape, slices, watch)

    return Subject(
        f"gemm_{weights}_{activations}_{tile}", lambda arch: (instance(arch).name, render(instance(arch))), launches
    )


def _gemm(
    code: CodeObject,
    one: GemmInstance,
    shape: tuple[int, int, int, int],
    slices: int,
    watch: Watch,
) -> LaunchResult:
    """Launch with numbers of no meaning, subnormal ones among the activations; C may have gaps between its rows."""
    (m, n, k, gap), rng, memory = shape, np.random.default_rng(0), DeviceMemory()
    lda, ldc, grid = -(-k // 8) * 8, n + gap, (-(-n // one.tile.n), -(-m // one.tile.m), slices)
    bricks = -(-k // 128) * -(-n // 16)
    a = rng.standard_normal(m * lda).astype(np.float32)
    halves = a.astype(np.float16) if one.activations.name == "fp16" else (a.view(np.uint32) >> 16).astype(np.uint16)
    if one.activations.name == "fp16":
        halves[::97] = np.float16(1e-6)
    contents = {
        "a": halves,
        "w": rng.integers(0, 256, bricks * 1024, np.uint8),
        "s": rng.integers(40, 70, bricks * 128).astype(np.uint8),  # MXFP4 takes the first half
        "o": np.ones(n, np.float32),
        "c": np.zeros(m * ldc, np.uint16),
        "p": np.zeros(slices * grid[0] * grid[1] * max(one.tile.m, 16) * one.tile.n, np.float32),
        "t": np.zeros(grid[0] * grid[1], np.uint32),
    }
    resources = {
        name: buffer_resource(memory.allocate(data), data.nbytes, code.arch) for name, data in contents.items()
    }
    values = resources | {
        name: np.uint32(value).tobytes()
        for name, value in {"m": m, "n": n, "k": k, "lda": lda, "ldc": ldc, "slices": slices}.items()
    }
    arguments = [values[argument.name] for argument in code.kernel(one.name).args if not argument.hidden]
    return _launch(code, one.name, grid, one.block, arguments, watch(list(resources.values())), memory)


SUBJECTS = [
    *(plain(name) for name in ("transpose", "reduce", "histogram", "softmax", "matrix")),
    gemm("nvfp4", "bf16", "m64n128k64_w1x4x1"),
    gemm("nvfp4", "fp16", "m64n256k64_w1x4x1"),
    gemm("mxfp4", "fp16", "m128n128k64_w1x4x1"),
]
