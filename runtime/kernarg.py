"""The kernel argument segment: values laid out where a manifest says they stand."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from runtime.descriptors import ADDRESS_BITS, buffer_resource, extent
from runtime.epilogue import Epilogue
from runtime.errors import ManifestError, OperandError, ShapeError
from runtime.manifest import Argument, Kernel
from runtime.memory import ITEM_BYTES, ITEM_SIZES
from runtime.select import Problem
from runtime.stacks import DeviceStack
from runtime.weights import DeviceWeight
from runtime.workspace import counter_bytes, partial_bytes


def kernarg(kernel: Kernel, problem: Problem, weight: DeviceWeight, arch: str, slices: int = 1) -> bytes:
    """The kernel argument segment of a problem, zero-padded to 8 bytes; A, C, bias, residual, p and t stand at address 0 in
    it."""
    check_parts(kernel, weight)
    added = {
        Epilogue.BIAS: problem.n * ITEM_BYTES,
        Epilogue.RESIDUAL: extent(problem.m, problem.columns, problem.ldr, ITEM_BYTES),
    }
    bias, residual = (size if problem.options & option else 0 for option, size in added.items())
    values: dict[str, int | bytes] = {
        "a": buffer_resource(0, extent(problem.m, problem.k, problem.lda, ITEM_SIZES[kernel.activations]), arch),
        "r": buffer_resource(0, problem.m * 4, arch),
        "w": buffer_resource(*weight.codes, arch),
        "s": buffer_resource(*weight.scales, arch),
        "o": buffer_resource(*weight.outer, arch),
        "c": buffer_resource(0, extent(problem.m, problem.columns, problem.ldc, ITEM_BYTES), arch),
        "bias": buffer_resource(0, bias, arch),
        "residual": buffer_resource(0, residual, arch),
        "p": buffer_resource(0, partial_bytes(kernel, problem.m, problem.n, slices), arch),
        "t": buffer_resource(0, counter_bytes(kernel, problem.m, problem.n, slices), arch),
        "m": problem.m,
        "n": problem.n,
        "k": problem.k,
        "lda": problem.lda,
        "ldc": problem.ldc,
        "slices": slices,
        "ldr": problem.ldr,
        "options": int(problem.options),
    }
    return fill(kernel, values)


def fill(kernel: Kernel, values: Mapping[str, Any]) -> bytes:
    """The kernel argument segment, zero-padded to 8 bytes: descriptors as bytes, numbers. More values may be given than the
    kernel has arguments. ManifestError for one that is not."""
    layout_, order = _struct(kernel, values)
    segment = bytearray(-(-kernel.kernarg.size // 8) * 8)
    layout_.pack_into(segment, 0, *(values[name] for name in order))
    return bytes(segment)


def check_parts(kernel: Kernel, weight: DeviceWeight | DeviceStack) -> None:
    """What the kernel asks of the buffers of a weight, which may be anybody's memory."""
    parts = {"w": ("codes", weight.codes), "s": ("scales", weight.scales), "o": ("outer", weight.outer)}
    for argument in kernel.kernarg.args:
        if argument.name in parts:
            name, (address, size) = parts[argument.name]
            if address % argument.alignment:
                raise OperandError(f"{name} of the weight start at {address:#x}: {kernel.name} needs a multiple of"
                                   f" {argument.alignment} bytes; copy them to memory of their own")  # fmt: skip
            if size > argument.max_bytes:
                raise ShapeError(f"{name} of the weight take {size} bytes, {argument.max_bytes} is the limit of"
                                 f" {kernel.name}: split the weight along N")  # fmt: skip


_CODES = {"buffer": "16s", "u32": "I", "f32": "f"}


def _struct(kernel: Kernel, values: Mapping[str, Any]) -> tuple[struct.Struct, list[str]]:
    """The manifest's offsets as one struct, and the arguments in its order. ManifestError for an unknown one."""
    text, end, order = "<", 0, []
    for argument in sorted(kernel.kernarg.args, key=lambda argument: argument.offset):
        value = values.get(argument.name)
        if value is None or isinstance(value, bytes) != (argument.kind == "buffer"):
            raise ManifestError(f"{kernel.name} has an argument {argument.name} ({argument.kind}) that this runtime"
                                " does not know: it is too old for these kernels")  # fmt: skip
        text += f"{argument.offset - end}x{_CODES[argument.kind]}"
        end = argument.offset + argument.size
        order.append(argument.name)
    return struct.Struct(text), order


def word(kernel: Kernel, arguments: Mapping[str, Argument], name: str) -> tuple[int, int]:
    """Where the address of a buffer stands, in 64-bit words, and the mask of address bits that have to be zero.

    The bits above an address and the sign are among them: that they are right costs no look of its own.
    """
    argument = arguments.get(name)
    if argument is None or argument.kind != "buffer" or argument.offset % 8:
        raise ManifestError(f"{kernel.name} takes no buffer {name} at a multiple of 8 bytes: this runtime needs one")
    return argument.offset // 8, argument.alignment - 1 | -1 << ADDRESS_BITS
