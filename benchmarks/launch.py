"""What a launch costs on the Python side, in microseconds, beside other ways to do it.

    python benchmarks/launch.py [--generated generated] [--rounds 7]

The driver is the virtual GPU's in its no-op mode, which accepts launches and does nothing: what remains is the cost of
Python, hip-python and the runtime. Best of several rounds, since other programs only ever add to it. On one device;
with several, asking for the current one comes on top of each of the runtime's figures.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import timeit
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("PETITGEN_VIRTUAL_NOOP", "1")
os.environ.setdefault("PETITGEN_VIRTUAL_DEVICES", "gfx942")

import numpy as np

import runtime
from runtime.kernarg import kernarg
from runtime.select import Problem

M, N, K = 16, 4096, 4096
LAUNCHES = 20_000
PLAN_LIMIT, GEMM_LIMIT = 3.0, 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=Path, default=Path("generated"), help="where the built kernels are")
    parser.add_argument("--rounds", type=int, default=7, help="of which the best counts")
    args = parser.parse_args()
    lib = runtime.load("gfx942", "virtual", args.generated)
    shape = (N, K // 2), (N, K // 16)
    packed = runtime.pack("nvfp4", *(np.full(s, 0x38, np.uint8) for s in shape), 1.0)
    print(f"{'microseconds a launch':58} {'best':>6}  at most")
    for name, limit, launch in ways(lib, packed):
        launch()
        count = LAUNCHES if limit else LAUNCHES // 10
        best = min(timeit.repeat(launch, number=count, repeat=args.rounds)) / count * 1e6
        print(f"{name:58} {best:6.2f}  {limit or ''}")
    return 0


def ways(lib: runtime.Library, packed: runtime.PackedWeight) -> list[tuple[str, float | None, Callable[[], object]]]:
    """(what, the promise in microseconds if there is one, one launch)."""
    w = packed.to(lib)
    x, out = lib.empty((M, K), "bf16"), lib.empty((M, N), "bf16")
    plan = lib.plan(w, M)
    rows = [
        ("hip-python alone, every argument prepared", None, bare(lib, plan)),
        ("plan(x, out)", PLAN_LIMIT, lambda: plan(x, out)),
        ("lib.gemm(x, w, out=out)", GEMM_LIMIT, lambda: lib.gemm(x, w, out=out)),
        ("lib.gemm(x, packed, out=out)", GEMM_LIMIT, lambda: lib.gemm(x, packed, out=out)),
        ("lib.gemm(x, w): a DeviceArray allocated and freed", None, lambda: lib.gemm(x, w)),
        ("hip-python with a tuple of ctypes, made for each launch", None, tuple_of_ctypes(lib, plan)),
    ]
    return rows + behind_torch(lib, w, x, out)


def bare(lib: runtime.Library, plan: runtime.Plan) -> Callable[[], object]:
    """hipModuleLaunchKernel as the runtime calls it, without anything round it."""
    from hip import hip

    function, (x, y, z), block = function_of(lib, plan), grid_of(plan), plan.selection.kernel.block
    buffer = ctypes.create_string_buffer(plan.selection.kernel.kernarg.size)
    size = ctypes.c_size_t(len(buffer))
    array = (ctypes.c_void_p * 5)(1, ctypes.addressof(buffer), 2, ctypes.addressof(size), 3)
    extra, stream = lib.hip.extra(array), hip.ihipStream_t(0)
    keep = buffer, size, array
    return lambda: (hip.hipModuleLaunchKernel(function, x, y, z, block, 1, 1, 0, stream, None, extra), keep)


def tuple_of_ctypes(lib: runtime.Library, plan: runtime.Plan) -> Callable[[], object]:
    """The form hip-python's own examples show: one ctypes object a dword, converted by hip-python."""
    from hip import hip

    kernel = plan.selection.kernel
    problem = Problem("gemm_nvfp4_bf16", M, N, K, K, N)
    words = np.frombuffer(kernarg(kernel, problem, plan.weight, lib.arch), np.uint32)[
        : kernel.kernarg.size // 4
    ].tolist()
    function, (x, y, z), block = function_of(lib, plan), grid_of(plan), kernel.block

    def launch() -> object:
        arguments = tuple(ctypes.c_uint32(word) for word in words)
        return hip.hipModuleLaunchKernel(
            function, x, y, z, block, 1, 1, sharedMemBytes=0, stream=None, kernelParams=None, extra=arguments
        )

    return launch


def function_of(lib: runtime.Library, plan: runtime.Plan) -> object:
    kernel = plan.selection.kernel
    module = lib.hip.load_module(lib.manifest.path(kernel).read_bytes(), "the benchmark")
    return lib.hip.function(module, kernel.symbol, "the benchmark")


def grid_of(plan: runtime.Plan) -> tuple[int, int, int]:
    return plan.selection.kernel.grid.size(m=M, n=N, k=K)


def behind_torch(
    lib: runtime.Library, w: runtime.DeviceWeight, x: runtime.DeviceArray, out: runtime.DeviceArray
) -> list[tuple[str, float | None, Callable[[], object]]]:
    """lib.gemm below torch's dispatcher. torch has no tensors on the virtual GPU: those of the call stand for them."""
    try:
        import torch
    except ImportError:
        return []
    library = torch.library.Library("petitgen_benchmark", "DEF")
    library.define(
        "gemm(Tensor x, Tensor codes, Tensor scales, Tensor outer, Tensor? bias=None, str format='nvfp4') -> ()"
    )

    def implementation(*_: object, **__: object) -> None:
        lib.gemm(x, w, out=out)

    library.impl("gemm", implementation, "CPU")

    schema = "(Tensor x, Tensor codes, Tensor scales, Tensor outer) -> Tensor"
    nothing = torch.empty(0)
    custom = torch.library.custom_op(
        "petitgen_benchmark::custom",
        lambda *_: (implementation(), nothing.clone())[1],
        mutates_args=(),
        schema=schema,
    )
    parts = [torch.zeros(1) for _ in range(4)]
    operator = torch.ops.petitgen_benchmark.gemm.default
    keep = library

    def through(launch: Callable[..., object]) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return launch(*parts), keep

        return run

    return [
        ("the same behind a torch operator, as runtime.ops has it", None, through(operator)),
        ("the same behind torch.library.custom_op", None, through(custom)),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
