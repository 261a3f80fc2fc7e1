"""Workgroups that share a tile: the sizes of what they share, whose it is, how it grows, and that counters start at 0."""

from __future__ import annotations

import ctypes
import struct
import threading
from typing import Any

import numpy as np
import pytest

from runtime.hip import Epoch
from runtime.kernarg import kernarg
from runtime.launch import Launcher, State
from runtime.manifest import Kernel, parse
from runtime.select import Problem
from runtime.weights import DeviceWeight
from runtime.workspace import Workspaces, counter_bytes, most_slices, partial_bytes, splits
from tests.runtime.manifests import kernel, manifest

WEIGHT = DeviceWeight("nvfp4", 40, 144, ((0x7F0011223300, 6144), (0x7F0011224B00, 768), (0x7F0011224E00, 160)), 0, None)
PROBLEM = Problem("gemm_nvfp4_bf16", 5, 40, 144, 144, 40)


def entry(tile_m: int = 16, tile_n: int = 32, split: bool = True) -> Kernel:
    (one,) = parse(manifest(kernel(tile_m, tile_n, split=split))).kernels.values()
    return one


class Memory:
    """A device whose memory is a list of what was asked for, and whose launches are what the kernel arguments say."""

    success, device_count = 0, 1

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.zeroed: list[tuple[int, int]] = []
        self.freed: list[int] = []
        self.launched: list[tuple[tuple[int, int, int], bytes]] = []
        self.streams = {stream: stream for stream in range(8)}
        self.epochs = {0: Epoch(0)}
        self.relaxed = 0

    def epoch(self, device: int) -> Epoch:
        return self.epochs[device]

    def extra(self, array: Any) -> Any:
        return array

    def malloc(self, size: int, device: int) -> tuple[int, Epoch]:
        assert self.relaxed, "allocated in a way that a capture would refuse"
        self.asked.append(size)
        return len(self.asked) << 32, self.epochs[device]

    def zero(self, address: int, size: int) -> None:
        self.zeroed.append((address, size))

    def release(self, call: str, address: int, epoch: Epoch) -> None:
        self.freed.append(address)

    def on(self, device: int) -> Any:
        return _Nothing()

    def relaxed_capture(self) -> Any:
        return _Relaxed(self)

    def launch(self, function: Any, x: int, y: int, z: int, *rest: Any) -> tuple[int]:
        size = ctypes.c_size_t.from_address(rest[-1][3]).value
        self.launched.append(((x, y, z), ctypes.string_at(rest[-1][1], size)))
        return (0,)


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class _Relaxed(_Nothing):
    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    def __enter__(self) -> None:
        self.memory.relaxed += 1

    def __exit__(self, *_: object) -> None:
        self.memory.relaxed -= 1


def shared(segment: bytes) -> tuple[tuple[int, int], tuple[int, int], int]:
    """(address, bytes) of p and t, and slices."""
    words = struct.unpack_from("<8I", segment, 80)
    (slices,) = struct.unpack_from("<I", segment, 112 + 20)
    return (words[0] | words[1] << 32, words[2]), (words[4] | words[5] << 32, words[6]), slices


def test_sizes():
    # 33 rows in tiles of 16 are 3, 100 columns in tiles of 32 are 4: twelve tiles of 16 x 32 floats, seven times
    assert partial_bytes(entry(), 33, 100, 7) == 7 * 12 * 16 * 32 * 4
    assert counter_bytes(entry(), 33, 100, 7) == 12 * 4
    assert (partial_bytes(entry(), 33, 100, 1), counter_bytes(entry(), 33, 100, 1)) == (0, 0)
    # tiles of 4 rows keep 16: MFMA makes no fewer
    assert partial_bytes(entry(4, 32), 5, 32, 2) == 2 * 2 * 16 * 32 * 4
    assert (most_slices(entry(), 129), most_slices(entry(split=False), 129)) == (2, 1)
    assert (splits(entry()), splits(entry(split=False))) == (True, False)


def test_the_kernel_arguments_of_one_slice_and_of_several():
    raw = 0x00020000
    one, three = (kernarg(entry(), PROBLEM, WEIGHT, "gfx942", slices) for slices in (1, 3))
    assert struct.unpack_from("<8I", one, 80) == (0, 0, 0, raw, 0, 0, 0, raw)
    # two tiles of 32 columns
    assert struct.unpack_from("<8I", three, 80) == (0, 0, 3 * 2 * 16 * 32 * 4, raw, 0, 0, 2 * 4, raw)
    assert struct.unpack_from("<6I", one, 112) == (5, 40, 144, 144, 40, 1)
    assert struct.unpack_from("<6I", three, 112) == (5, 40, 144, 144, 40, 3)


def launcher(memory: Memory, slices: int, state: State | None = None, problem: Problem = PROBLEM) -> Launcher:
    return Launcher(memory, state or State(0), None, entry(), problem, WEIGHT, "gfx942", slices)  # type: ignore[arg-type]


def test_one_slice_takes_no_memory():
    memory = Memory()
    launcher(memory, 1).run(0x1000, 0x2000, 0)
    assert memory.asked == []
    grid, segment = memory.launched[0]
    assert (grid, shared(segment)) == ((2, 1, 1), ((0, 0), (0, 0), 1))


def test_launches_of_a_stream_share_and_streams_do_not():
    memory, state = Memory(), State(0)
    one, other = launcher(memory, 3, state), launcher(memory, 2, state)
    for stream in (5, 5, 6, 5):
        one.run(0x1000, 0x2000, stream)
    other.run(0x1000, 0x2000, 6)
    assert len(memory.asked) == 2
    assert [grid for grid, _ in memory.launched] == [(2, 1, 3)] * 4 + [(2, 1, 2)]
    (first, second, third, fourth, last) = (shared(segment) for _, segment in memory.launched)
    assert first == second == fourth
    assert third[:1] != first[:1]
    assert last[0][0] == third[0][0]  # another launch, the same memory
    for (p, p_size), (t, t_size), _ in (first, third):
        (start, zeroed) = next(z for z in memory.zeroed if z[0] <= t < z[0] + z[1])
        assert start <= t
        assert t + t_size <= start + zeroed
        assert p >= start + zeroed  # partial sums and counters do not overlap
        assert p + p_size <= (p >> 32 << 32) + memory.asked[(p >> 32) - 1]
        assert p % 256 == t % 256 == 0


def test_memory_grows_and_what_a_graph_may_hold_stays_till_the_end():
    memory, state = Memory(), State(0)
    small = launcher(memory, 2, state)
    small.run(0x1000, 0x2000, 1)
    large = launcher(memory, 2, state, Problem("gemm_nvfp4_bf16", 5000, 40, 144, 144, 40))
    large.run(0x100000, 0x20000000, 1)
    small.run(0x1000, 0x2000, 1)
    before, after, small_again = (shared(segment) for _, segment in memory.launched)
    assert before[0][0] != after[0][0]
    assert small_again[0][0] == after[0][0]
    assert after[0][1] == 2 * 313 * 2 * 16 * 32 * 4
    assert memory.asked[1] >= 2 * memory.asked[0]
    assert memory.freed == []
    spaces = state.workspaces[memory.epoch(0)]
    assert spaces.size == sum(memory.asked)
    spaces.clear()
    assert sorted(memory.freed) == [1 << 32, 2 << 32]


def test_a_reset_device_gets_new_memory():
    memory, state = Memory(), State(0)
    launcher(memory, 2, state).run(0x1000, 0x2000, 1)
    memory.epochs[0].over = True
    memory.epochs[0] = Epoch(0)
    launcher(memory, 2, state).run(0x1000, 0x2000, 1)
    assert len(memory.asked) == 2
    assert list(state.workspaces) == [memory.epochs[0]]


def test_each_thread_has_its_own_memory_for_the_per_thread_stream():
    memory, found = Memory(), []
    spaces = Workspaces(memory, 0)  # type: ignore[arg-type]
    everyone = threading.Barrier(3)

    def work() -> None:
        everyone.wait()
        found.append({spaces.at_least(2, 100, 100).partials for _ in range(2)})
        everyone.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(one) for one in found] == [1, 1, 1]
    assert len(set.union(*found)) == 3
    assert 2 not in spaces.by_stream


@pytest.mark.compiler
def test_memory_is_made_and_cleared_during_a_capture(lib: Any):
    """HIP refuses both, and gives the capture up, unless they are asked for in the right way."""
    from hip import hip as names

    hip, spaces = lib.hip, Workspaces(lib.hip, lib.device)
    with hip.on(lib.device):
        stream = hip.call("hipStreamCreate")
        hip.call("hipStreamBeginCapture", stream, names.hipStreamCaptureMode.hipStreamCaptureModeGlobal)
        space = spaces.at_least(int(stream), 1000, 50000)
        graph = hip.call("hipStreamEndCapture", stream)
        counters = np.full(space.counters_size, 0xFF, np.uint8)
        space.memory.read(counters)
        assert not counters.any()
        space.memory.write(np.full(4096, 0xAB, np.uint8))
        hip.zero(space.counters + 1024, 2048)
        space.memory.read(counters)
        for handle, end in ((graph, "hipGraphDestroy"), (stream, "hipStreamDestroy")):
            hip.call(end, handle)
    assert space.partials_size >= 1000
    assert counters.size >= 50000
    assert (counters[:4096] == np.repeat([0xAB, 0, 0, 0xAB], 1024)).all()
