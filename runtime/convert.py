"""Launches of the kernels that quantize and dequantize, on memory by address: torch is not needed.

runtime/quantize/device.py has them for tensors. What is larger than a buffer descriptor reaches is done in parts.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import gcd, lcm
from typing import TYPE_CHECKING

from runtime import modules
from runtime.conversions import EIGHT, PLAIN, Conversion, View
from runtime.descriptors import buffer_resource
from runtime.errors import ClosedError, OperandError, ShapeError
from runtime.formats import FORMATS
from runtime.kernarg import fill
from runtime.manifest import Kernel
from runtime.memory import ITEM_BYTES

if TYPE_CHECKING:
    from runtime.library import Library

# The `extra` argument of hipModuleLaunchKernel. Source: hip_runtime_api.h, HIP_LAUNCH_PARAM_*.
_BUFFER_POINTER, _BUFFER_SIZE, _END = 1, 2, 3
_MOST_WORK_ITEMS = (1 << 32) - 1
_ELEMENTS, _SCALES = 4 * EIGHT, 8  # parts begin at multiples of these: every buffer is aligned, and a random word begins four
_MOST = 1 << 31  # bytes that a part may have

Buffer = tuple[int, int]  # address and bytes


@dataclass(frozen=True, slots=True)
class Device:
    """Where and in which order: a device of a library and a stream, a hipStream_t as a number."""

    library: Library
    device: int
    stream: int = 0

    def kernel(self, op: str, form: str, dtype: str, axis: int = 0) -> Kernel:
        """The one for these. ShapeError if there is none. axis: tile.axis, if kernels of the op differ in it."""
        for kernel in self.library.kernels.values():
            if (kernel.op, kernel.weights, kernel.activations, kernel.tile.get("axis", 0)) == (op, form, dtype, axis):
                return kernel
        contract = "_".join(part for part in (op, form, dtype) if part)
        raise ShapeError(f"no kernel for {contract} on {self.library.arch}: build one with petitgen build")

    def launch(self, kernel: Kernel, values: Mapping[str, Buffer | float], dimensions: Mapping[str, int]) -> None:
        """Asynchronously. OperandError for a buffer that the kernel does not take, ClosedError, HipError."""
        lib, hip = self.library, self.library.hip
        if lib.state.closed:
            raise ClosedError(lib.state.closed)
        grid = kernel.grid.size(**dimensions)
        if max(grid[0] * kernel.block, *grid[1:]) > _MOST_WORK_ITEMS:
            raise ShapeError(f"{kernel.name} would take {list(grid)} workgroups, a launch has at most {_MOST_WORK_ITEMS}"
                             " work-items in a direction: split the tensor")  # fmt: skip
        function = modules.LOADED.function(hip, lib.manifest, kernel, self.device, lib.state.id)
        segment = fill(kernel, {name: self._value(kernel, name, value) for name, value in values.items()})
        buffer, length = ctypes.create_string_buffer(segment, len(segment)), ctypes.c_size_t(kernel.kernarg.size)
        pointers = (_BUFFER_POINTER, ctypes.addressof(buffer), _BUFFER_SIZE, ctypes.addressof(length), _END)
        array = (ctypes.c_void_p * len(pointers))(*pointers)
        with hip.on(self.device):
            launched = hip.launch(
                function, *grid, kernel.block, 1, 1, 0, hip.stream(self.stream), None, hip.extra(array)
            )
        names = lib.state.names(self.device)
        if launched[0] is not hip.success:
            raise hip.error("hipModuleLaunchKernel", launched[0], f"launching {kernel.name}", tuple(names), self.device)
        names.append(kernel.name)

    def _value(self, kernel: Kernel, name: str, value: Buffer | float) -> bytes | float:
        if not isinstance(value, tuple):
            return value
        argument = next((one for one in kernel.kernarg.args if one.name == name), None)
        if argument is not None and (value[0] % argument.alignment or value[1] > argument.max_bytes):
            raise OperandError(f"{name} is {value[1]} bytes at {value[0]:#x}: {kernel.name} takes {argument.max_bytes} at a"
                               f" multiple of {argument.alignment}")  # fmt: skip
        return buffer_resource(*value, self.library.arch)


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A format and a type of floats on a device. What it computes: docs/quantization.md."""

    on: Device
    form: str
    dtype: str

    def largest(self, x: int, count: int, largest: int) -> None:
        """The largest finite magnitude of `count` elements at address `x`, float32, to address `largest`."""
        kernel, hip = self.on.kernel("amax", "", self.dtype), self.on.library.hip
        with hip.on(self.on.device):
            hip.call("hipMemsetAsync", largest, 0, 4, hip.stream(self.on.stream))
        step = _MOST // ITEM_BYTES
        for first in range(0, count, step):
            size = min(step, count - first)
            values: dict[str, Buffer | float] = {"x": (x + first * ITEM_BYTES, size * ITEM_BYTES), "largest": (largest, 4), "count": size}
            self.on.launch(kernel, values, {"items": -(-size // EIGHT)})

    def quantize(
        self, view: View, x: int, codes: int, scales: int, outer: int = 0, used: int = 0, seed: int = 0, offset: int = 0
    ) -> None:
        """x, contiguous, to codes and scales in the shapes of the view; all are addresses.

        outer, used  of formats with an outer scale: where it is, float32; with Conversion.AMAX where the largest magnitude
                     is, and where the outer scale goes that is computed of it
        seed, offset  0 to 2^64 - 1, of random words
        """
        kernel = self.on.kernel("quantize", self.form, self.dtype, view.axis)
        for part in parts(flat(view)):
            at = (offset + part.element // 4) % 2**64
            words = {"seed": seed, "offset": at}
            halves = {f"{n}_{h}": v >> s & 0xFFFFFFFF for n, v in words.items() for h, s in (("low", 0), ("high", 32))}
            values = self._buffers(part, x, codes, scales, "x") | halves
            values |= {"outer": (outer, 4 * bool(outer)), "used": (used, 4 * bool(used))}
            self.on.launch(kernel, values | _sizes(part.view), part.view.dimensions("quantize"))

    def dequantize(self, view: View, codes: int, scales: int, y: int, outer: int = 0) -> None:
        """codes and scales to y; all are addresses. outer: of the outer scale, float32, of formats that have one."""
        kernel = self.on.kernel("dequantize", self.form, self.dtype)
        for part in parts(flat(view)):
            values = self._buffers(part, y, codes, scales, "y") | {"outer": (outer, 4 * bool(outer))}
            self.on.launch(kernel, values | _sizes(part.view), part.view.dimensions("dequantize"))

    @staticmethod
    def _buffers(part: Part, floats: int, codes: int, scales: int, name: str) -> dict[str, Buffer | float]:
        view = part.view
        return {
            name: (floats + part.element * ITEM_BYTES, view.size * ITEM_BYTES),
            "codes": (codes + part.element // 2, view.size // 2),
            "scales": (scales + part.scale, view.scales[0] * view.scales[1] * view.scales[2]),
        }


def _sizes(view: View) -> dict[str, Buffer | float]:
    return {"slabs": view.slabs, "rows": view.rows, "columns": view.columns, "options": int(view.options)}


# ---- views ------------------------------------------------------------------------------------------
def view_of(form: str, shape: tuple[int, ...], axis: int, block_2d: bool, options: Conversion = PLAIN) -> View:
    """A contiguous tensor of this shape, quantized along `axis` (from 0), as three axes."""
    before, length, after = _product(shape[:axis]), shape[axis], _product(shape[axis + 1 :])
    block = FORMATS[form].block
    if block_2d:
        options |= Conversion.SQUARE | (Conversion.IN_ROWS if axis == len(shape) - 1 else PLAIN)
        return View(_product(shape[:-2]), shape[-2], shape[-1], block, options)
    if after == 1:
        return View(1, before, length, block, options | Conversion.IN_ROWS)
    return View(before, length, after, block, options)


def flat(view: View) -> View:
    """The same as one row, where blocks lie in rows and none is a part: work-items then need not look for theirs."""
    if view.axis == 3 and view.columns % view.block == 0:
        return replace(view, slabs=1, rows=1, columns=view.size)
    return view


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a tensor: a view, and how many elements and scales come before it."""

    view: View
    element: int = 0
    scale: int = 0


def parts(view: View, most: int = _MOST) -> Iterator[Part]:
    """Parts of at most `most` bytes that may be quantized alone. ShapeError where even the smallest is larger."""
    whole = view.size * ITEM_BYTES
    if whole <= most:
        yield Part(view)
        return
    axis = "slabs" if view.slabs > 1 else "rows" if view.rows > 1 else "columns"
    length = getattr(view, axis)
    scales = view.scales[1] * view.scales[2]  # of a slab
    unit = EIGHT * view.block
    if axis == "slabs":
        unit = lcm(_ELEMENTS // gcd(whole // ITEM_BYTES // length, _ELEMENTS), _SCALES // gcd(scales, _SCALES))
    step = most // (whole // length) // unit * unit
    if not step and axis == "slabs":
        for slab in range(view.slabs):  # their rows may still be divided
            one = replace(view, slabs=1)
            if one.size % _ELEMENTS or scales % _SCALES:
                raise ShapeError(_too_large(view, most))
            yield from (Part(p.view, p.element + slab * one.size, p.scale + slab * scales) for p in parts(one, most))
        return
    if not step:
        raise ShapeError(_too_large(view, most))
    element = scale = 0
    for first in range(0, length, step):
        part = Part(replace(view, **{axis: min(step, length - first)}), element, scale)
        yield part
        element += part.view.size
        scale += part.view.scales[0] * part.view.scales[1] * part.view.scales[2]


def _too_large(view: View, most: int) -> str:
    return (f"[{view.slabs}, {view.rows}, {view.columns}] cannot be divided into parts of {most} bytes that begin with a whole"
            " block: reshape it, or quantize parts of it with the same outer scale")  # fmt: skip


def _product(sizes: tuple[int, ...]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
