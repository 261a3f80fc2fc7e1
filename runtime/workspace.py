"""Memory for workgroups that share a tile of C along K: their partial sums, and counters of who has arrived.

A kernel with an argument `slices` may be launched with that many workgroups a tile, grid z. Each adds up its part of K
and writes the sums to p; the last to arrive at a tile, which t counts, adds them in the order of the slices. It leaves
its counter at zero again, so t is cleared once, when it is allocated.

Launches on one stream follow each other and share one pair of p and t; each stream has its own. What was once given to
a stream stays allocated until the library is closed, because a captured graph may hold its address: it grows to twice
its size and more, so what is kept besides is never more than what is used.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from runtime.errors import DeviceMemoryError
from runtime.hip import Hip
from runtime.manifest import Kernel
from runtime.memory import Allocation

FEWEST_ROWS = 16  # of a tile's partial sums: MFMA makes no fewer
ALIGNMENT = 256
_SMALLEST = 1 << 20, 1 << 14  # bytes of partial sums and counters of a stream's first workspace
_PER_THREAD = 2  # hipStreamPerThread: one number for a stream in each thread. Source: hip_runtime_api.h


def splits(kernel: Kernel) -> bool:
    """Whether several workgroups can share a tile of the kernel."""
    return any(argument.name == "slices" for argument in kernel.kernarg.args)


def most_slices(kernel: Kernel, k: int) -> int:
    """How many slices of K have something to do: the units that K is divided in; 1 for kernels that do not split."""
    return -(-k // kernel.tile["unit"]) if splits(kernel) else 1


def tiles(kernel: Kernel, m: int, n: int) -> int:
    """Tiles of C, each with a counter of its own."""
    return -(-m // kernel.tile["m"]) * -(-n // kernel.tile["n"])


def partial_bytes(kernel: Kernel, m: int, n: int, slices: int) -> int:
    """Size of p: f32 sums of each slice of each tile. 0 for one slice, which stores C itself."""
    if slices == 1:
        return 0
    return slices * tiles(kernel, m, n) * max(kernel.tile["m"], FEWEST_ROWS) * kernel.tile["n"] * 4


def counter_bytes(kernel: Kernel, m: int, n: int, slices: int) -> int:
    """Size of t: a u32 for each tile; 0 for one slice."""
    return 0 if slices == 1 else 4 * tiles(kernel, m, n)


@dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """A stream's p and t: addresses, sizes in bytes, and the memory they lie in."""

    partials: int
    partials_size: int
    counters: int
    counters_size: int
    memory: Allocation


class Workspaces:
    """Those of one library on one device. Safe to use from several threads.

    by_stream  the newest of each stream, by its handle; looked up at each launch
    """

    __slots__ = ("_device", "_hip", "_lock", "_of_threads", "_outgrown", "by_stream")

    def __init__(self, hip: Hip, device: int) -> None:
        self._hip, self._device = hip, device
        self.by_stream: dict[int, Workspace] = {}
        self._of_threads: dict[int, Workspace] = {}
        self._outgrown: list[Workspace] = []
        self._lock = threading.Lock()

    def at_least(self, stream: int, partials: int, counters: int) -> Workspace:
        """The workspace of a stream, made or grown to these sizes in bytes. DeviceMemoryError.

        Also during a capture, of which the new memory is no part. The per-thread stream has one for each thread.
        """
        of, key = (self._of_threads, threading.get_ident()) if stream == _PER_THREAD else (self.by_stream, stream)
        with self._lock:
            old = of.get(key)
            if old is not None and old.partials_size >= partials and old.counters_size >= counters:
                return old
            sizes = (2 * old.partials_size, 2 * old.counters_size) if old else _SMALLEST
            of[key] = new = self._make(max(partials, sizes[0]), max(counters, sizes[1]))
            if old is not None:
                self._outgrown.append(old)
            return new

    def _make(self, partials: int, counters: int) -> Workspace:
        counters = -(-counters // ALIGNMENT) * ALIGNMENT
        try:
            with self._hip.relaxed_capture():
                memory = Allocation(self._hip, counters + partials, self._device)
                with self._hip.on(self._device):
                    self._hip.zero(memory.address, counters)
        except DeviceMemoryError as error:
            raise DeviceMemoryError(error.call, error.code, f"making {partials} bytes of room for the partial sums of"
                                    " workgroups that share a tile; plan(slices=1) needs none") from error  # fmt: skip
        return Workspace(memory.address + counters, partials, memory.address, counters, memory)

    def clear(self) -> None:
        """Give everything back. Nothing may be running or be replayed that was launched with it."""
        with self._lock:
            self.by_stream.clear()
            self._of_threads.clear()
            self._outgrown.clear()

    @property
    def size(self) -> int:
        """Bytes that are allocated."""
        everything = *self.by_stream.values(), *self._of_threads.values(), *self._outgrown
        return sum(workspace.memory.size for workspace in everything)
