"""profile_gemm(): a built GEMM kernel at a shape, without weights or activations."""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path

from petitgen.emulator import DeviceMemory
from petitgen.errors import ProfileError
from petitgen.isa import CodeObject
from petitgen.profiler.launches import Launch
from petitgen.profiler.model import profile
from petitgen.profiler.result import Problem, Profile
from runtime.descriptors import buffer_resource, extent
from runtime.formats import FORMATS
from runtime.manifest import Kernel
from runtime.memory import ITEM_BYTES, ITEM_SIZES
from runtime.weights import part_bytes
from runtime.workspace import counter_bytes, partial_bytes

WARM = ("a", "p", "t")  # another kernel has just written the activations; the workspace is used by every launch


def profile_gemm(
    kernel: Kernel,
    directory: Path,
    m: int,
    n: int,
    k: int,
    slices: int = 1,
    arch: str | None = None,
    compute_units: int | None = None,
    timeline: bool = False,
) -> Profile:
    """Model C[m, n] = A[m, k] x W[n, k]^T with one kernel of a manifest.

    directory      where its code object is
    slices         workgroups that share a tile along K
    compute_units  in place of those of the device that `arch` (default: the kernel's) stands for
    The weights are cold: each is read once a pass over the model. Activations and workspace are warm.
    ProfileError when the code object is missing or the model cannot run it.
    """
    code = _code(directory / kernel.file, kernel.sha256)
    launch = gemm_launch(kernel, code, m, n, k, slices)
    problem = gemm_problem(kernel, m, n, k)
    return profile(launch, arch, problem=problem, compute_units=compute_units, timeline=timeline)


def gemm_launch(kernel: Kernel, code: CodeObject, m: int, n: int, k: int, slices: int = 1) -> Launch:
    """The launch of a GEMM kernel with buffers that hold zeros and take no memory."""
    if slices > 1 and "slices" not in {argument.name for argument in kernel.kernarg.args}:
        raise ProfileError(f"{kernel.name}: workgroups of this kernel do not share tiles, {slices} slices were asked")
    lda = -(-k // kernel.constraints.get("lda_multiple", 1)) * kernel.constraints.get("lda_multiple", 1)
    ldc = -(-n // kernel.constraints.get("ldc_multiple", 1)) * kernel.constraints.get("ldc_multiple", 1)
    codes, scales, outer = part_bytes(kernel.weights, n, k)
    sizes = {
        "a": extent(m, k, lda, ITEM_SIZES[kernel.activations]),
        "w": codes,
        "s": scales,
        "o": outer,
        "r": 4 * m,
        "c": extent(m, n, ldc, ITEM_BYTES),
        "p": partial_bytes(kernel, m, n, slices),
        "t": counter_bytes(kernel, m, n, slices),
        "bias": 0,
        "residual": 0,
    }
    memory = DeviceMemory()
    memory.unwritten.assume_written()
    addresses = {name: memory.allocate(size) for name, size in sizes.items()}
    scalars = {"m": m, "n": n, "k": k, "lda": lda, "ldc": ldc, "slices": slices}
    scalars |= {"ldr": 0, "options": 0}  # no epilogue
    segment = bytearray(kernel.kernarg.size)
    for argument in kernel.kernarg.args:
        if argument.kind == "buffer":
            data = buffer_resource(addresses[argument.name], sizes[argument.name], code.arch)
        else:
            data = struct.pack("<I", scalars[argument.name])
        segment[argument.offset : argument.offset + argument.size] = data
    grid = kernel.grid.size(m=m, n=n, k=k, slices=slices)
    warm = tuple(addresses[name] for name in WARM)
    return Launch(code, kernel.symbol, bytes(segment), grid, kernel.block, memory=memory, warm=warm)


def gemm_problem(kernel: Kernel, m: int, n: int, k: int) -> Problem:
    """What no kernel can avoid: weights, scales, A and C once; two operations a multiply-add."""
    fmt = FORMATS[kernel.weights]
    weights = n * k * fmt.bits / 8 + (n * k / fmt.block if fmt.block else 0)
    moved = ITEM_SIZES[kernel.activations] * m * k + ITEM_BYTES * m * n
    return Problem(f"gemm {m}x{n}x{k}", 2.0 * m * n * k, weights + moved)


@lru_cache(maxsize=64)
def _code(path: Path, sha256: str) -> CodeObject:
    try:
        code = CodeObject.load(path)
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}; build it with: petitgen build") from error
    if code.sha256 != sha256:
        raise ProfileError(f"{path}: not the code object that the manifest describes; build it again")
    return code
