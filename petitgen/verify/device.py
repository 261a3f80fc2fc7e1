"""Runs one built kernel on the emulated device, with everything round its buffers watched."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import DeviceMemory, LaunchResult, launch
from petitgen.emulator.sanitizer import Finding, Sanitizer
from petitgen.errors import VerifyError
from petitgen.verify.epilogue import Extra
from petitgen.verify.floats import FLOAT_TYPES
from petitgen.verify.limits import check_arch, check_limits
from runtime.descriptors import buffer_resource, extent
from runtime.epilogue import NONE
from runtime.formats import FORMATS
from runtime.manifest import Kernel
from runtime.orders import reorder, rescale
from runtime.packing import PackedWeight
from runtime.workspace import counter_bytes, partial_bytes

_CODES = {"u32": "<I", "f32": "<f"}
GUARD_BYTES = 256  # before and after every buffer; keeps the buffer's start aligned
GUARD = 0xFF  # NaN in every type of more than a byte that a kernel reads
FP8_NAN = 0x80
STEPS_PER_K = 100  # wave-instructions for each element of K, some ten times what kernels take
LONGEST_TURN = 4096  # K that a kernel's loop may cover in one turn, however small the problem is
SENTINEL = 0x5A  # C before the launch: no NaN, and not what any result is likely to be


@dataclass(frozen=True, slots=True, eq=False)
class Execution:
    """What one launch did.

    c            [M, N] of the activation type
    trespasses   bytes changed that the kernel must not touch, one line each place
    instructions wave-instructions executed
    faults       what the sanitizer found
    """

    c: NDArray
    trespasses: tuple[str, ...]
    instructions: int
    faults: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A guarded allocation: `address` is the buffer's own, `before` its bytes and the guards' at launch."""

    name: str
    address: int
    size: int
    before: NDArray[np.uint8]


def execute(
    kernel: Kernel,
    code_object: Path,
    arch: str,
    a: NDArray,
    weights: PackedWeight,
    lda: int,
    ldc: int,
    sanitize: bool = False,
    slices: int = 1,
    extra: Extra | None = None,
    row_scales: NDArray[np.float32] | None = None,
) -> Execution:
    """C = A x W^T on the emulator, and what an epilogue makes of it.

    a: [M, K] of the kernel's activation type; lda and ldc: row pitches in elements; slices: workgroups that share a
    tile along K. row_scales: [M], of FP8 activations. The gaps between rows of A hold NaN, those of C a sentinel,
    partial sums that nobody has written are NaN, and the counters of arrivals have to be zero again in the end.
    `sanitize`: look for faults that results do not show; buffers that the manifest calls out_of_range may be accessed
    past their end. Where rows of C are apart, buffers have no more than the alignment that the manifest asks for.
    Raises EmulationError, with the findings so far, when the kernel does what the device cannot, and VerifyError when
    the operands are not the kernel's.
    """
    dtype, out = FLOAT_TYPES[kernel.activations].dtype, FLOAT_TYPES[kernel.out].dtype
    _check(kernel, a, dtype, weights, arch)
    (m, k), n = a.shape, weights.n
    extra = extra or Extra(NONE, None, None)
    columns, ldr = extra.options.columns(n), 0 if extra.residual is None else ldc
    check_limits(kernel, m, n, k, lda, ldc, slices, columns)
    contents = {
        "a": pitched(a, lda),
        "w": reorder(weights.codes, kernel.order).reshape(-1),
        "s": rescale(weights.scales, weights.format, kernel.order).reshape(-1),
        "o": weights.outer.view(np.uint8),
        "r": np.zeros(0, np.uint8) if row_scales is None else row_scales.view(np.uint8),
        "c": np.full(extent(m, columns, ldc, out.itemsize), SENTINEL, np.uint8),
        "bias": np.zeros(0, np.uint8) if extra.bias is None else extra.bias.view(np.uint8),
        "residual": np.zeros(0, np.uint8) if extra.residual is None else pitched(extra.residual, ldr),
        **workspace(kernel, m, n, slices),
    }
    nan = {"a": GUARD if dtype.itemsize > 1 else FP8_NAN, "w": GUARD if FORMATS[kernel.weights].block else FP8_NAN}
    aligned = {argument.name: argument.alignment for argument in kernel.kernarg.args if ldc > columns}
    memory = DeviceMemory()
    buffers = {
        name: place(memory, name, data, aligned.get(name, 0), nan.get(name, GUARD)) for name, data in contents.items()
    }
    scalars = {"m": m, "n": n, "k": k, "lda": lda, "ldc": ldc, "slices": slices}
    scalars |= {"ldr": ldr, "options": int(extra.options)}
    kernarg = laid_out(kernel, buffers, scalars, arch)
    meant = intended(kernel, kernarg) if sanitize else None
    result = run(kernel, code_object, memory, kernarg, scalars, longest(k), meant)
    c, written = rows_of(contents_of(memory, buffers["c"]), m, columns, ldc, out)
    found = trespasses(memory, buffers.values(), {"c": written, "p": ...})
    return Execution(c, found, result.total, result.findings)


def workspace(kernel: Kernel, m: int, n: int, slices: int) -> dict[str, NDArray[np.uint8]]:
    """What workgroups that share a tile have together: partial sums that nobody has written, and counters."""
    partial, counters = partial_bytes(kernel, m, n, slices), counter_bytes(kernel, m, n, slices)
    return {"p": np.full(partial, GUARD, np.uint8), "t": np.zeros(counters, np.uint8)}


def longest(k: int) -> int:
    """Wave-instructions of a wave after which a GEMM is taken to be in an endless loop."""
    return STEPS_PER_K * (k + LONGEST_TURN)


def run(
    kernel: Kernel,
    code_object: Path,
    memory: DeviceMemory,
    kernarg: bytes,
    dimensions: Mapping[str, int],
    steps: int,
    meant: Sequence[bytes] | None,
) -> LaunchResult:
    """Launch on the emulator. EmulationError, with the findings so far, when the kernel does what the device cannot.

    dimensions  what the grid is made of, among others
    steps       wave-instructions that a wave may take
    meant       None, or to be sanitized: the descriptors that the kernel goes past on purpose
    """
    grid = kernel.grid.size(**dimensions)
    waves = math.prod(grid) * -(-kernel.block // kernel.resources.wave_size)
    watch = False if meant is None else Sanitizer(meant)
    return launch(
        code_object, kernel.symbol, grid, kernel.block, kernarg, memory=memory, limit=waves * steps, sanitize=watch
    )


def contents_of(memory: DeviceMemory, buffer: Buffer) -> NDArray[np.uint8]:
    """The bytes of a buffer, and of the guard behind it."""
    return memory.read(buffer.address, np.uint8, buffer.before.size - GUARD_BYTES)


def trespasses(memory: DeviceMemory, buffers: Iterable[Buffer], written: Mapping[str, Any]) -> tuple[str, ...]:
    """What has changed and must not have, a line each place. written: by buffer, which of its bytes may; `...` for all."""
    lines = []
    for buffer in buffers:
        changed = memory.read(buffer.address - GUARD_BYTES, np.uint8, buffer.before.size) != buffer.before
        if buffer.name in written:
            changed[GUARD_BYTES : GUARD_BYTES + buffer.size][written[buffer.name]] = False
        if changed.any():
            lines.append(_trespass(buffer, changed))
    return tuple(lines)


def _check(kernel: Kernel, a: NDArray, dtype: np.dtype, weights: PackedWeight, arch: str) -> None:
    """VerifyError when A or W is not what the kernel reads, or `arch` not what it was built for."""
    check_arch(kernel, arch)
    if a.ndim != 2:
        raise VerifyError(f"{kernel.name}: A has {a.ndim} dimensions, two are needed: [M, K]")
    if a.dtype != dtype:
        raise VerifyError(f"{kernel.name}: A is {a.dtype}, the kernel reads {dtype}")
    if weights.format != kernel.weights:
        raise VerifyError(f"{kernel.name}: the weights are {weights.format}, the kernel reads {kernel.weights}")
    if a.shape[1] != weights.k:
        raise VerifyError(f"{kernel.name}: A has K = {a.shape[1]}, the weights have K = {weights.k}")


def pitched(a: NDArray, lda: int) -> NDArray[np.uint8]:
    """The bytes of A with rows `lda` elements apart, NaN in the gaps, cut after the last element."""
    m, k = a.shape
    wide = np.full((m, lda * a.itemsize), GUARD if a.itemsize > 1 else FP8_NAN, np.uint8)
    wide[:, : k * a.itemsize] = np.ascontiguousarray(a).view(np.uint8)
    return wide.reshape(-1)[: extent(m, k, lda, a.itemsize)]


def place(memory: DeviceMemory, name: str, data: NDArray[np.uint8], offset: int = 0, value: int = GUARD) -> Buffer:
    """offset: from where every alignment is met. value: of the bytes of guards."""
    guard = np.full(GUARD_BYTES, value, np.uint8)
    before = np.concatenate([guard, data, guard])
    start = memory.allocate(np.concatenate([guard[:offset], before]))
    return Buffer(name, start + offset + GUARD_BYTES, data.size, before)


def laid_out(kernel: Kernel, buffers: Mapping[str, Buffer], scalars: Mapping[str, float], arch: str) -> bytes:
    """The kernel argument segment, laid out as the manifest says."""
    segment = bytearray(kernel.kernarg.size)
    for argument in kernel.kernarg.args:
        if argument.kind == "buffer":
            buffer = buffers[argument.name]
            data = buffer_resource(buffer.address, buffer.size, arch)
        else:
            data = struct.pack(_CODES[argument.kind], scalars[argument.name])
        segment[argument.offset : argument.offset + argument.size] = data
    return bytes(segment)


def intended(kernel: Kernel, kernarg: bytes) -> list[bytes]:
    """The descriptors that the kernel goes past on purpose."""
    return [kernarg[arg.offset : arg.offset + arg.size] for arg in kernel.kernarg.args if arg.out_of_range]


def rows_of(data: NDArray[np.uint8], m: int, n: int, ldc: int, dtype: np.dtype) -> tuple[NDArray, NDArray[np.int64]]:
    """C as an array, and the indices of its bytes in `data`."""
    offsets = np.arange(m)[:, None] * ldc * dtype.itemsize + np.arange(n * dtype.itemsize)
    return np.ascontiguousarray(data[offsets]).view(dtype), offsets


def _trespass(buffer: Buffer, changed: NDArray[np.bool_]) -> str:
    first = int(np.argmax(changed)) - GUARD_BYTES
    place = f"byte {first} of {buffer.size}" if 0 <= first < buffer.size else f"{_outside(first, buffer.size)}"
    return f"buffer {buffer.name}: {int(changed.sum())} bytes changed that must not, the first at {place}"


def _outside(first: int, size: int) -> str:
    return f"{-first} bytes before its start" if first < 0 else f"{first - size} bytes past its end"
