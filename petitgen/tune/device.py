"""Microseconds on a device, by its own events, through the runtime that an engine launches with."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from petitgen.errors import TuneError
from runtime.library import Library
from runtime.manifest import Kernel
from runtime.memory import Allocation, DeviceArray, numpy_dtype
from runtime.select import Problem
from runtime.weights import DeviceWeight, part_bytes

COLD_BYTES = 512 << 20  # of weights in turn: twice the Infinity Cache, so that each comes from HBM, as when decoding
MOST_COPIES = 64
LAUNCHES, ROUNDS = 64, 5  # in a graph, and graphs of which the median counts
_FILL = 1 << 20
_PART_ALIGNMENT = 256
_SCALE = 0x38  # 1.0 in E4M3, a power of two in E8M0


class Device:
    """Measures on the device of a library. Launches are captured into a graph: what Python costs is not in them.

    Every launch reads another copy of the weight. On the virtual GPU each kernel runs once and the time, which is the
    emulator's, means nothing.
    """

    def __init__(self, lib: Library) -> None:
        self._lib, self._hip = lib, lib.hip
        self._held: tuple[tuple[str, int, int, str], list[DeviceWeight]] | None = None

    def __call__(self, kernel: Kernel, problem: Problem, slices: int) -> float:
        lib, hip = self._lib, self._hip
        if kernel.out != kernel.activations:
            raise TuneError(f"{kernel.name}: no plan takes FP8 activations yet; tune it on the model")
        weights = self._weights(kernel, problem)
        x = lib.array(_activations(problem, kernel.activations))
        out = lib.empty((problem.m, problem.n), kernel.activations)
        plans = [lib.plan(w, problem.m, kernel.activations, kernel=kernel.name, slices=slices) for w in weights]
        launches, rounds = (1, 1) if lib.virtual else (max(LAUNCHES, len(plans)), ROUNDS)
        with hip.on(lib.device):
            stream = hip.call("hipStreamCreate")
            try:
                plans[0](x, out, stream)  # the code object is loaded and the workspace made before the capture
                lib.synchronize(stream)
                return _in_graph(lib, plans, x, out, stream, launches, rounds)
            finally:
                hip.call("hipStreamDestroy", stream)

    def _weights(self, kernel: Kernel, problem: Problem) -> list[DeviceWeight]:
        """Copies of a weight, kept until another one is asked for."""
        key = kernel.weights, problem.n, problem.k, kernel.order
        if self._held is None or self._held[0] != key:
            self._held = None  # before the new ones are made
            size = sum(part_bytes(*key[:3]))
            copies = 1 if self._lib.virtual else min(MOST_COPIES, -(-COLD_BYTES // size))
            self._held = key, [self._weight(*key) for _ in range(copies)]
        return self._held[1]

    def _weight(self, format: str, n: int, k: int, order: str) -> DeviceWeight:
        """Codes at random, scales all alike."""
        sizes = part_bytes(format, n, k)
        starts = np.cumsum([0, *(-(-size // _PART_ALIGNMENT) * _PART_ALIGNMENT for size in sizes)]).tolist()
        memory = Allocation(self._hip, starts[-1], self._lib.device)
        noise = np.random.default_rng(0).integers(0, 256, _FILL, np.uint8)
        fills = noise, np.full(_FILL, _SCALE, np.uint8), np.ones(_FILL // 4, np.float32).view(np.uint8)
        with self._hip.on(self._lib.device):
            for start, size, fill in zip(starts, sizes, fills, strict=False):
                for at in range(0, size, _FILL):
                    memory.write(fill[: min(_FILL, size - at)], start + at)
        parts = [(memory.address + start, size) for start, size in zip(starts, sizes, strict=False)]
        return DeviceWeight(format, n, k, (parts[0], parts[1], parts[2]), self._lib.device, memory, order)


def _activations(problem: Problem, dtype: str) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(_FILL, np.float32)
    return np.resize(noise.astype(numpy_dtype(dtype)), (problem.m, problem.k))


def _in_graph(
    lib: Library, plans: list[Any], x: DeviceArray, out: DeviceArray, stream: Any, launches: int, rounds: int
) -> float:
    """Microseconds a launch: the median over graphs of `launches`, the plans by turns."""
    hip = lib.hip
    start, stop = hip.call("hipEventCreate"), hip.call("hipEventCreate")
    hip.begin_capture(stream)
    for index in range(launches):
        plans[index % len(plans)](x, out, stream)
    graph = hip.call("hipStreamEndCapture", stream)
    ready = hip.call("hipGraphInstantiateWithFlags", graph, 0)
    times = []
    for _ in range(rounds):
        hip.call("hipEventRecord", start, stream)
        hip.call("hipGraphLaunch", ready, stream)
        hip.call("hipEventRecord", stop, stream)
        lib.synchronize(stream)
        times.append(hip.call("hipEventElapsedTime", start, stop))
    for handle, end in (
        (ready, "hipGraphExecDestroy"),
        (graph, "hipGraphDestroy"),
        (start, "hipEventDestroy"),
        (stop, "hipEventDestroy"),
    ):
        hip.call(end, handle)
    return statistics.median(times) * 1e3 / launches
