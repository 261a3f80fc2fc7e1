"""Launches: the kernel arguments laid out once, two addresses written a launch; four where workgroups share a tile.

HIP copies the kernarg during hipModuleLaunchKernel (graph capture included), so a buffer can be used again as soon as
the call returns. Nothing on the way allocates device memory or synchronises, but for the first launch on a stream that
needs a workspace, or a larger one than any before.
"""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime import modules
from runtime.descriptors import ADDRESS_BITS, extent
from runtime.epilogue import Epilogue
from runtime.errors import ClosedError, DeviceResetError, OperandError, ShapeError
from runtime.hip import Epoch, Hip
from runtime.kernarg import kernarg, word
from runtime.manifest import Kernel
from runtime.memory import ITEM_BYTES, ITEM_SIZES, Allocation, DeviceArray, number
from runtime.select import Problem
from runtime.weights import DeviceWeight
from runtime.workspace import Workspaces, counter_bytes, partial_bytes

# The `extra` argument of hipModuleLaunchKernel. Source: hip_runtime_api.h, HIP_LAUNCH_PARAM_*.
_BUFFER_POINTER, _BUFFER_SIZE, _END = 1, 2, 3
_REMEMBERED = 8
_ADDED = ("bias", "residual")
_LOW_BITS = (1 << 32) - 1
_SCALE_BYTES = 4  # of a row of FP8 activations
# What the dispatch packet has room for. Source: HSA Platform System Architecture 1.2, 2.9.6, grid_size_x.
_MOST_WORK_ITEMS = (1 << 32) - 1


@dataclass(slots=True, weakref_slot=True, eq=False)
class State:
    """What launches of one library share.

    closed      None, or why no launch is possible any more
    recent      names of the last kernels launched, by device: errors of the device come later than their cause
    workspaces  by device, as long as it is not reset
    """

    id: int
    closed: str | None = None
    recent: dict[int, deque[str]] = field(default_factory=dict)
    workspaces: dict[Epoch, Workspaces] = field(default_factory=dict)

    def names(self, device: int) -> deque[str]:
        return self.recent.setdefault(device, deque(maxlen=_REMEMBERED))

    def workspaces_of(self, hip: Hip, epoch: Epoch) -> Workspaces:
        for gone in [epoch for epoch in list(self.workspaces) if epoch.over]:
            self.workspaces.pop(gone, None)
        return self.workspaces.setdefault(epoch, Workspaces(hip, epoch.device))


Slot = tuple[memoryview, Any, Any]  # the kernarg as 64-bit words, what HIP is given, and what keeps it alive


def slot_of(hip: Hip, template: bytes, kernel: Kernel) -> Slot:
    """A kernarg of its own, filled with `template`, as a launch takes it."""
    buffer = ctypes.create_string_buffer(template, len(template))
    length = ctypes.c_size_t(kernel.kernarg.size)
    pointers = (_BUFFER_POINTER, ctypes.addressof(buffer), _BUFFER_SIZE, ctypes.addressof(length), _END)
    array = (ctypes.c_void_p * len(pointers))(*pointers)
    return memoryview(buffer).cast("B").cast("Q"), hip.extra(array), (buffer, length, array)


class Launcher:
    """One kernel with one weight for one layout of x and out on one device. Safe to use from several threads."""

    __slots__ = (
        "_a",
        "_a_mask",
        "_added",
        "_c",
        "_c_mask",
        "_call",
        "_counters",
        "_device",
        "_epoch",
        "_function",
        "_grid",
        "_high",
        "_hip",
        "_low",
        "_names",
        "_p",
        "_partials",
        "_problem",
        "_rows",
        "_several",
        "_slots",
        "_state",
        "_streams",
        "_success",
        "_t",
        "_template",
        "_workspaces",
        "kernel",
    )

    def __init__(
        self,
        hip: Hip,
        state: State,
        function: Any,
        kernel: Kernel,
        problem: Problem,
        weight: DeviceWeight,
        arch: str,
        slices: int = 1,
    ) -> None:
        self.kernel = kernel
        self._hip, self._state, self._function = hip, state, function
        self._call, self._success, self._streams = hip.launch, hip.success, hip.streams
        self._device, self._several = weight.device, hip.device_count > 1
        self._names = state.names(weight.device)
        self._epoch = hip.epoch(weight.device)
        if self._epoch.over or (isinstance(weight.owner, Allocation) and weight.owner.lost):
            raise was_reset(weight.device)
        self._grid = kernel.grid.size(m=problem.m, n=problem.n, k=problem.k, slices=slices)
        if max(self._grid[0] * kernel.block, *self._grid[1:]) > _MOST_WORK_ITEMS:
            raise ShapeError(f"{problem} takes {list(self._grid)} workgroups of {kernel.block}: a launch has at most"
                             f" {_MOST_WORK_ITEMS} work-items in a direction; split it")  # fmt: skip
        self._problem = problem
        self._low = -extent(problem.m, problem.columns, problem.ldc, ITEM_BYTES)  # where out starts, counted from x, if
        self._high = extent(problem.m, problem.k, problem.lda, ITEM_SIZES[kernel.activations])  # it has bytes in common with x
        arguments = {argument.name: argument for argument in kernel.kernarg.args}
        self._a, self._a_mask = word(kernel, arguments, "a")
        self._c, self._c_mask = word(kernel, arguments, "c")
        self._added = tuple(word(kernel, arguments, name) for name in _ADDED) if problem.options else ()
        self._rows = word(kernel, arguments, "r") if "r" in arguments else None
        self._partials = partial_bytes(kernel, problem.m, problem.n, slices)
        self._counters = counter_bytes(kernel, problem.m, problem.n, slices)
        if self._partials:
            self._workspaces = state.workspaces_of(hip, self._epoch)
            self._p, self._t = word(kernel, arguments, "p")[0], word(kernel, arguments, "t")[0]
        self._template = kernarg(kernel, problem, weight, arch, slices)
        self._slots: list[Slot] = [self._slot()]

    def run(self, a: int, c: int, stream: int, bias: int = 0, residual: int = 0, rows: int = 0) -> None:
        """Launch with x at address `a` and out at `c`, asynchronously. HipError, OperandError, ClosedError.

        bias, residual: addresses, if the problem's options have them; rows: that of the scales of FP8 activations
        """
        if self._state.closed:
            raise ClosedError(self._state.closed)
        if self._epoch.over:
            raise was_reset(self._device)
        if a & self._a_mask or c & self._c_mask or not a or not c:
            self._misplaced(a, c)
        if self._low < c - a < self._high:
            self._overlapping(a, c)
        if self._added:
            self._check_added(c, bias, residual)
        if self._rows is not None:
            self._check_rows(c, rows)
        space = None
        if self._partials:
            space = self._workspaces.by_stream.get(stream)
            if space is None or space.partials_size < self._partials or space.counters_size < self._counters:
                space = self._workspaces.at_least(stream, self._partials, self._counters)
        try:
            slot = self._slots.pop()
        except IndexError:  # as many as threads were here at once
            slot = self._slot()
        words, extra, _ = slot
        words[self._a], words[self._c] = a, c
        if self._added:
            (at, _), (beside, _) = self._added
            words[at], words[beside] = bias, residual
        if self._rows is not None:
            words[self._rows[0]] = rows
        if space is not None:
            words[self._p], words[self._t] = space.partials, space.counters
        x, y, z = self._grid
        queue = self._streams.get(stream)
        if queue is None:
            queue = self._hip.stream(stream)
        if self._several:
            with self._hip.on(self._device):
                result = self._call(self._function, x, y, z, self.kernel.block, 1, 1, 0, queue, None, extra)
        else:
            result = self._call(self._function, x, y, z, self.kernel.block, 1, 1, 0, queue, None, extra)
        self._slots.append(slot)
        if result[0] is not self._success:
            self._failed(result[0])
        self._names.append(self.kernel.name)

    def _slot(self) -> Slot:
        return slot_of(self._hip, self._template, self.kernel)

    def _failed(self, status: Any) -> None:
        doing, before = f"launching {self.kernel.name}", tuple(self._names)
        error = self._hip.error("hipModuleLaunchKernel", status, doing, before, self._device)
        if error.code == "hipErrorInvalidHandle":  # the stream is none, or the code object is gone
            modules.LOADED.check(self._hip, self._device)
            if self._epoch.over:
                raise was_reset(self._device) from error
        raise error

    def _misplaced(self, a: int, c: int) -> None:
        for name, address, mask in (("x", a, self._a_mask), ("out", c, self._c_mask)):
            if not 0 < address < 1 << ADDRESS_BITS:
                raise OperandError(f"{name} starts at {address:#x}, where no device has memory: an address is above 0"
                                   f" and has {ADDRESS_BITS} bits")  # fmt: skip
            if address & mask:
                raise OperandError(f"{name} starts at {address:#x}: {self.kernel.name} needs a multiple of"
                                   f" {(mask & _LOW_BITS) + 1} bytes; copy it to memory of its own")  # fmt: skip

    def _check_added(self, c: int, bias: int, residual: int) -> None:
        """The residual may be out itself: each element is read by who writes it. Nothing else of out may be read."""
        p = self._problem
        size = extent(p.m, p.columns, p.ldc, ITEM_BYTES)
        extents = (p.n * ITEM_BYTES, extent(p.m, p.columns, p.ldr, ITEM_BYTES))
        for name, address, (_, mask), other in zip(_ADDED, (bias, residual), self._added, extents, strict=True):
            if not p.options & Epilogue[name.upper()]:
                continue
            if not address or address & mask:
                raise OperandError(f"{name} starts at {address:#x}: {self.kernel.name} needs a multiple of"
                                   f" {(mask & _LOW_BITS) + 1} bytes; copy it to memory of its own")  # fmt: skip
            same = name == "residual" and address == c and p.ldr == p.ldc
            if c < address + other and address < c + size and not same:
                raise OperandError(f"{name} at {address:#x} overlaps out at {c:#x}: other workgroups still read it when the"
                                   " first write out; give memory of its own")  # fmt: skip

    def _check_rows(self, c: int, rows: int) -> None:
        p = self._problem
        if not rows or self._rows is None or rows & self._rows[1]:
            raise OperandError(f"x_scale starts at {rows:#x}: {self.kernel.name} needs float32 there, at a multiple of 4 bytes")
        if c < rows + p.m * _SCALE_BYTES and rows < c + extent(p.m, p.columns, p.ldc, ITEM_BYTES):
            raise OperandError(f"x_scale at {rows:#x} overlaps out at {c:#x}: give memory of its own")

    def _overlapping(self, a: int, c: int) -> None:
        """Refuses, unless x and out are different columns of rows with one pitch."""
        p = self._problem
        column = (c - a) // ITEM_BYTES % p.lda
        if self._rows is not None or p.m == 1 or p.lda != p.ldc or (c - a) % ITEM_BYTES or not p.k <= column <= p.lda - p.columns:
            raise OperandError(f"out at {c:#x} overlaps x at {a:#x}: other workgroups still read x when the first write"
                               " out; give memory of its own")  # fmt: skip


def was_reset(device: int) -> DeviceResetError:
    return DeviceResetError(
        f"device {device} was reset, and what was on it is gone: make arrays, device weights and plans again. Packed"
        " weights are copied again by themselves, and the library need not be loaded again"
    )


class Nothing:
    """Launches of a problem without rows."""

    __slots__ = ()

    def run(self, a: int, c: int, stream: int, bias: int = 0, residual: int = 0, rows: int = 0) -> None:
        pass


Launch = Launcher | Nothing


def refuse_gradient() -> None:
    """For operands that require one."""
    import torch

    if torch.is_grad_enabled():
        raise OperandError("x requires a gradient, or another operand does, which these kernels do not give: use"
                           " torch.no_grad() or x.detach()")  # fmt: skip


def neighbours(what: str, vector: Any, stream: Any) -> Any:
    """A copy of a strided tensor. OperandError with a stream of one's own: the copy would be made on torch's current one."""
    if stream is not None:
        raise OperandError(f"{what} has strides {list(vector.stride())}: with stream= its elements have to be neighbours;"
                           f" use {what}.contiguous()")  # fmt: skip
    return vector.contiguous()


def stream_handle(stream: Any, x: Any) -> int:
    """The hipStream_t as a number. stream: None (torch's current one for a tensor, else the null stream), a number,
    a torch.cuda.Stream or a stream of hip-python. OperandError for anything else."""
    if stream is None:
        return 0 if type(x) is DeviceArray else _torch_stream()(x.get_device())
    handle = stream if type(stream) is int else number(getattr(stream, "cuda_stream", stream), "stream")
    if not 0 <= handle < 1 << 64:
        raise OperandError(f"stream {handle} is no hipStream_t: a number from 0 to 2**64 - 1 is")
    return handle


_found_stream: Callable[[int], int] | None = None


def _torch_stream() -> Callable[[int], int]:
    """The function that gives torch's current stream on a device, the fast one where torch has it."""
    global _found_stream
    if _found_stream is None:
        torch = sys.modules["torch"]
        _found_stream = getattr(torch._C, "_cuda_getCurrentRawStream", None) or (
            lambda device: torch.cuda.current_stream(device).cuda_stream
        )
    return _found_stream
