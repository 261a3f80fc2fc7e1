"""Runs one built grouped kernel on the emulated device, with everything round its buffers watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import DeviceMemory
from petitgen.emulator.memory import BASE
from petitgen.errors import VerifyError
from petitgen.verify.device import (
    GUARD,
    GUARD_BYTES,
    SENTINEL,
    Buffer,
    Execution,
    contents_of,
    intended,
    laid_out,
    longest,
    pitched,
    place,
    rows_of,
    run,
    trespasses,
    workspace,
)
from petitgen.verify.grouped import GroupedProblem, sort
from petitgen.verify.limits import check_arch
from runtime.descriptors import buffer_resource, extent
from runtime.manifest import Kernel
from runtime.orders import reorder, rescale
from runtime.packing import pack

_FAR = 1 << 33  # where stacks begin whose experts are far apart
_FAR_STACK = 1 << 33  # and how far they are from each other


def execute_grouped(
    kernel: Kernel, code_object: Path, arch: str, problem: GroupedProblem, lda: int, ldc: int, sanitize: bool = False
) -> Execution:
    """A grouped GEMM on the emulator: C [tokens * topk, columns], SENTINEL where no expert has a row. As execute of
    device.py; rows of C without an expert may not be written."""
    check_arch(kernel, arch)
    shape, dtype = problem.shape, problem.float_type.dtype
    sorting = sort(problem)
    m, n, k, slices = sorting.ids.size, shape.n, shape.k, shape.slices
    if shape.block % kernel.tile["m"]:
        raise VerifyError(f"{kernel.name}: blocks of {shape.block} rows are no multiple of its {kernel.tile['m']}")
    memory = DeviceMemory()
    ldr = 0 if problem.residual is None else ldc
    contents: dict[str, NDArray] = {
        "a": pitched(problem.a, lda),
        "c": np.full(extent(shape.m, shape.columns, ldc, dtype.itemsize), SENTINEL, np.uint8),
        "residual": np.zeros(0, np.uint8) if problem.residual is None else pitched(problem.residual, ldr),
        **workspace(kernel, m, n, slices),
        "ids": sorting.ids,
        "experts": sorting.experts,
        "valid": np.array([sorting.valid], np.int32),
        "route": sorting.weights,
    }
    buffers = {name: place(memory, name, data.view(np.uint8)) for name, data in contents.items()}
    stacks, firsts = _stacks(memory, kernel, problem)
    scalars = {"m": m, "n": n, "k": k, "lda": lda, "ldc": ldc, "slices": slices, "ldr": ldr}
    scalars |= {"options": int(shape.options), "tokens": shape.tokens, "topk": shape.topk, "slots": shape.slots}
    scalars |= {"block": shape.block, "stack": max(problem.numbers) + 1}
    kernarg = laid_out(kernel, buffers | firsts, scalars, arch)
    meant = intended(kernel, kernarg) + _of_each_expert(firsts, problem.numbers, arch) if sanitize else None
    result = run(kernel, code_object, memory, kernarg, scalars, longest(k), meant)
    c, offsets = rows_of(contents_of(memory, buffers["c"]), shape.m, shape.columns, ldc, dtype)
    found = trespasses(memory, [*buffers.values(), *stacks], {"c": offsets[problem.written], "p": ...})
    return Execution(c, found, result.total, result.findings)


def _stacks(memory: DeviceMemory, kernel: Kernel, problem: GroupedProblem) -> tuple[list[Buffer], dict[str, Buffer]]:
    """Every part of every expert, expert e's e times its size behind the first's; and the first's by name."""
    packed = [pack(kernel.weights, *weights.tensors) for weights in problem.weights]
    parts = {
        "w": [reorder(one.codes, kernel.order).reshape(-1) for one in packed],
        "s": [rescale(one.scales, one.format, kernel.order).reshape(-1) for one in packed],
        "o": [one.outer.view(np.uint8) for one in packed],
        "bias": [bias.view(np.uint8) for bias in problem.bias] or [np.zeros(0, np.uint8)],
    }
    buffers: list[Buffer] = []
    firsts: dict[str, Buffer] = {}
    for index, (name, each) in enumerate(parts.items()):
        if problem.shape.far:
            start = BASE + _FAR + index * _FAR_STACK
            made = [_adopted(memory, name, start, each[:-1])]
            made.append(_adopted(memory, name, start + problem.numbers[-1] * each[0].size, each[-1:]))
        else:
            beyond = each[:1] if problem.shape.strangers else []  # what is no expert may look like one
            made = [place(memory, name, np.concatenate([*each, *beyond]))]
        buffers += made
        firsts[name] = Buffer(name, made[0].address, each[0].size, each[0])
    return buffers, firsts


def _of_each_expert(firsts: dict[str, Buffer], numbers: Sequence[int], arch: str) -> list[bytes]:
    """The descriptors that kernels make of the first expert's."""
    return [buffer_resource(b.address + e * b.size, b.size, arch) for b in firsts.values() for e in numbers]


def _adopted(memory: DeviceMemory, name: str, address: int, each: Sequence[NDArray[np.uint8]]) -> Buffer:
    """Experts one behind the other, at an address of our choice."""
    guard = np.full(GUARD_BYTES, GUARD, np.uint8)
    before = np.concatenate([guard, *each, guard])
    memory.adopt(address - GUARD_BYTES, before.size)
    memory.write(address - GUARD_BYTES, before)
    return Buffer(name, address, before.size - 2 * GUARD_BYTES, before)
