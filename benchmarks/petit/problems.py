"""A GEMM with ordinary data, what it must give, and Petit's and our result for it on the emulated device."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from petit import chooser
from petit.wheel import Entry, Petit, Tile
from petitgen.emulator import launch
from petitgen.verify.compare import Mismatch, ToleranceFacts, compare
from petitgen.verify.device import execute
from petitgen.verify.reference import F32_SMALLEST_NORMAL, Reference
from runtime.manifest import Kernel
from runtime.packing import pack

DTYPES = {"bf16": np.dtype(ml_dtypes.bfloat16), "fp16": np.dtype(np.float16)}
E2M1 = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Format:
    """A weight format. block: values along K that share a scale; near_one: scale codes from, to (not included)."""

    block: int
    scales: np.dtype
    near_one: tuple[int, int]


FORMATS = {
    "nvfp4": Format(16, np.dtype(ml_dtypes.float8_e4m3fn), (0x30, 0x40)),  # 0.5 to 2; positive, as Petit needs
    "mxfp4": Format(32, np.dtype(ml_dtypes.float8_e8m0fnu), (126, 130)),
}


@dataclass(frozen=True, slots=True, eq=False)
class Gemm:
    """C[m, n] = A x W^T x outer. a: [M, K]; codes: u8 [N, K/2], low nibble = even k; scales: u8 [N, K/block]."""

    weights: str
    activations: str
    a: NDArray
    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    outer: np.float32

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, K."""
        return self.a.shape[0], self.codes.shape[0], self.a.shape[1]


def make(weights: str, activations: str, m: int, n: int, k: int) -> Gemm:
    """Normal activations, any codes, scales near one: always the same for the same arguments.

    No code is minus zero: Petit's documentation asks for that.
    """
    fmt = FORMATS[weights]
    rng = np.random.default_rng(zlib.crc32(f"{weights} {activations} {m} {n} {k}".encode()))
    codes = rng.choice(np.delete(np.arange(16, dtype=np.uint8), 8), (n, k))
    return Gemm(
        weights,
        activations,
        rng.standard_normal((m, k)).astype(DTYPES[activations]),
        codes[:, 0::2] | codes[:, 1::2] << 4,
        rng.integers(*fmt.near_one, (n, k // fmt.block)).astype(np.uint8),
        np.float32(0.75 if weights == "nvfp4" else 1.0),  # MXFP4 has no outer scale
    )


def expected(gemm: Gemm) -> Reference:
    """In float64, from the definitions of the formats."""
    fmt = FORMATS[gemm.weights]
    codes = np.stack([gemm.codes & 15, gemm.codes >> 4], axis=-1).reshape(gemm.codes.shape[0], -1)
    scales = gemm.scales.view(fmt.scales).astype(np.float64)
    w = E2M1[codes] * np.repeat(scales, fmt.block, axis=1) * float(gemm.outer)
    a = gemm.a.astype(np.float64)
    return Reference(a @ w.T, np.abs(a) @ np.abs(w).T, np.full((), a.shape[1] * F32_SMALLEST_NORMAL))


def petit_result(petit: Petit, arch: str, gemm: Gemm, tile: Tile) -> NDArray:
    """C [M, N] from Petit's kernels: its two repack kernels, then its GEMM with that tile."""
    m, n, k = gemm.shape
    sizes = [np.uint32(k), np.uint32(n)]
    codes, scales = np.zeros((n, k // 8), np.uint32), np.zeros_like(gemm.scales)
    inputs = np.ascontiguousarray(gemm.codes).view(np.uint32)
    functor = b"\0"  # an empty C++ object, its first argument
    _run(petit.repacks[arch, "weights"], (k // 256, n // 32), 256, [functor, codes, inputs, *sizes])
    grid = (k // 64, n // 64) if gemm.weights == "nvfp4" else (k // 256, n // 32)
    _run(petit.repacks[arch, gemm.weights], grid, 64, [scales, gemm.scales, *sizes])
    c, outer = np.zeros((m, n), gemm.a.dtype), np.array([gemm.outer])
    entry = petit.gemms[chooser.kind(arch, gemm.weights, gemm.activations)][tile]
    arguments = [c, gemm.a, codes, scales, outer, np.uint32(m), np.uint32(n), np.uint32(k)]
    _run(entry, tile.grid(m, n), tile.block, arguments)
    return c


def _run(entry: Entry, grid: tuple[int, int], block: int, arguments: list) -> None:
    launch(entry.code, entry.symbol, grid, block, arguments)


def our_result(kernel: Kernel, code_object: Path, arch: str, gemm: Gemm, slices: int) -> NDArray:
    """C [M, N] from one of our kernels, with as many workgroups a tile."""
    _, n, k = gemm.shape
    outer = np.full(n, gemm.outer) if gemm.weights == "nvfp4" else None
    packed = pack(gemm.weights, gemm.codes, gemm.scales, outer)
    return execute(kernel, code_object, arch, gemm.a, packed, lda=k, ldc=n, slices=slices).c


def wrong(gemm: Gemm, got: NDArray, tolerance: ToleranceFacts) -> Mismatch | None:
    """None if every element is within tolerance of float64."""
    return compare(got, expected(gemm), tolerance, gemm.activations)
