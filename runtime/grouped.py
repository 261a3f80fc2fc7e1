"""Grouped GEMM: which kernel, its arguments, and launching it.

C[token * topk + slot] = A[token, or token * topk + slot] x W[expert]^T, for rows that are sorted by expert (runtime/sorting.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime import modules
from runtime.descriptors import buffer_resource, extent
from runtime.epilogue import NONE, Epilogue
from runtime.errors import ClosedError, OperandError, ShapeError
from runtime.estimate import Estimate, estimate, slice_counts
from runtime.hip import Hip
from runtime.kernarg import check_parts, fill, word
from runtime.launch import State, slot_of, was_reset
from runtime.manifest import Kernel
from runtime.memory import ITEM_BYTES, number
from runtime.select import Problem, Selection, contract_of, refusal
from runtime.sorting import block_of, most_blocks
from runtime.stacks import DeviceStack
from runtime.workspace import counter_bytes, partial_bytes

if TYPE_CHECKING:
    from runtime.library import Library

_ID_BYTES = 4
_OPERANDS = ("a", "c", "ids", "experts", "valid", "route", "bias", "residual")


@dataclass(frozen=True, slots=True)
class GroupedProblem:
    """Sizes of a grouped GEMM. contract: grouped_nvfp4_bf16.

    rows    sorted rows, padding included; block: of them have their expert in common
    tokens, topk  C has tokens * topk rows; A has tokens * slots
    experts       weights [n, k]
    lda, ldc, ldr row pitches of A, C and the residual, in elements
    """

    contract: str
    rows: int
    block: int
    tokens: int
    topk: int
    slots: int
    experts: int
    n: int
    k: int
    lda: int
    ldc: int
    options: Epilogue = NONE
    ldr: int = 0

    @property
    def columns(self) -> int:
        """Of C."""
        return self.options.columns(self.n)

    def __str__(self) -> str:
        options = f" {self.options.name}" if self.options else ""
        return (f"{self.contract} tokens={self.tokens} topk={self.topk} experts={self.experts} n={self.n} k={self.k}"
                f" blocks of {self.block}{options}")  # fmt: skip

    def extents(self) -> dict[str, int]:
        """Bytes of each operand that a launch brings."""
        c_rows = self.tokens * self.topk
        return {
            "a": extent(self.tokens * self.slots, self.k, self.lda, ITEM_BYTES),
            "c": extent(c_rows, self.columns, self.ldc, ITEM_BYTES),
            "ids": self.rows * _ID_BYTES,
            "experts": -(-self.rows // self.block) * _ID_BYTES,
            "valid": _ID_BYTES,
            "route": self.rows * _ID_BYTES if self.options & Epilogue.ROUTED else 0,
            "bias": self.n * ITEM_BYTES if self.options & Epilogue.BIAS else 0,
            "residual": extent(c_rows, self.columns, self.ldr, ITEM_BYTES) if self.options & Epilogue.RESIDUAL else 0,
        }


def sorted_problem(
    contract: str, tokens: int, topk: int, experts: int, n: int, k: int, block: int | None = None
) -> GroupedProblem:
    """The problem of tokens sorted by sort_by_expert, in matrices without a pitch. OperandError for what are no sizes."""
    sizes = {"tokens": tokens, "topk": topk, "experts": experts, "n": n, "k": k}
    tokens, topk, experts, n, k = (number(size, name) for name, size in sizes.items())
    rows = tokens * topk
    if min(tokens, topk, experts, n, k) < 1 or (block is not None and number(block, "block") < 1):
        raise OperandError(f"{sizes}, blocks of {block}: sizes start at 1")
    block = block or block_of(rows, experts)
    return GroupedProblem(contract, most_blocks(rows, experts, block) * block, block, tokens, topk, 1, experts, n, k, k, n)


def choose_grouped(kernels: Iterable[Kernel], problem: GroupedProblem, arch: str, compute_units: int) -> Selection:
    """The kernel and the number of slices with the least estimated clocks. ShapeError if no kernel takes the problem."""
    offered = [kernel for kernel in kernels if contract_of(kernel) == problem.contract]
    reasons = {kernel.name: _refusal(kernel, problem) for kernel in offered}
    able = [kernel for kernel in offered if reasons[kernel.name] is None]
    if not able:
        why = "; ".join(sorted({str(reason) for reason in reasons.values()}))
        raise ShapeError(f"no kernel takes {problem}: {why or f'there is none on {arch}, build one with petitgen build'}")
    ranked = [
        (_estimate(kernel, problem, count, arch, compute_units), kernel, count)
        for kernel in able
        for count in _slice_counts(kernel, problem, compute_units)
    ]
    cost, best, count = min(ranked, key=lambda one: (one[0].clocks, -one[1].tile["m"], one[2], one[1].name))
    text = f"{cost.workgroups} workgroups of {best.tile['m']} x {best.tile['n']}, if tokens go to all experts alike;"
    return Selection(best, f"{text} estimated {cost.clocks:,.0f} clocks", count)


def _refusal(kernel: Kernel, problem: GroupedProblem) -> str | None:
    """Why a kernel cannot take a problem, or None."""
    p = problem
    if p.block % kernel.tile["m"]:
        return f"tiles of {kernel.tile['m']} rows do not divide blocks of {p.block}"
    reason = refusal(kernel, Problem(p.contract, 1, p.n, p.k, p.lda, p.ldc, p.options, p.ldr))
    sizes = p.extents()
    for argument in kernel.kernarg.args:
        if sizes.get(argument.name, 0) > argument.max_bytes:
            return f"{argument.name.upper()} takes {sizes[argument.name]} bytes, {argument.max_bytes} is the limit: split the tokens"
    return reason


def _tiles(kernel: Kernel, problem: GroupedProblem) -> tuple[int, int]:
    """Tiles of rows that count, and experts that have any, if each row goes to any expert: half of an expert's last tile is
    then padding."""
    rows = problem.tokens * problem.topk
    busy = max(1, round(problem.experts * (1 - (1 - 1 / problem.experts) ** rows)))
    return max(busy, round(rows / kernel.tile["m"] + busy / 2)), busy


def _slice_counts(kernel: Kernel, problem: GroupedProblem, compute_units: int) -> list[int]:
    """Of those that make sense, those whose partial sums the kernel can address."""
    rows = _tiles(kernel, problem)[0] * kernel.tile["m"]
    limit = min((argument.max_bytes for argument in kernel.kernarg.args if argument.name in ("p", "t")), default=0)
    counts = slice_counts(kernel, rows, problem.n, problem.k, compute_units)
    return [count for count in counts if partial_bytes(kernel, problem.rows, problem.n, count) <= limit]


def _estimate(kernel: Kernel, problem: GroupedProblem, slices: int, arch: str, compute_units: int) -> Estimate:
    tiles, busy = _tiles(kernel, problem)
    return estimate(kernel, tiles * kernel.tile["m"], problem.n, problem.k, slices, arch, compute_units, weights=busy)


def kernarg(kernel: Kernel, problem: GroupedProblem, weights: DeviceStack, arch: str, slices: int) -> bytes:
    """The kernel argument segment of a problem; what a launch brings stands at address 0 in it."""
    check_parts(kernel, weights)
    values: dict[str, int | bytes] = {name: buffer_resource(0, size, arch) for name, size in problem.extents().items()}
    for name, (address, size) in {"w": weights.codes, "s": weights.scales, "o": weights.outer}.items():
        values[name] = buffer_resource(address, size, arch)
    values |= {
        "p": buffer_resource(0, partial_bytes(kernel, problem.rows, problem.n, slices), arch),
        "t": buffer_resource(0, counter_bytes(kernel, problem.rows, problem.n, slices), arch),
        "m": problem.rows,
        "slices": slices,
        "options": int(problem.options),
        "stack": problem.experts,
    }
    values |= {name: getattr(problem, name) for name in ("n", "k", "lda", "ldc", "ldr", "tokens", "topk", "slots", "block")}
    return fill(kernel, values)


class GroupedLauncher:
    """One kernel with one stack of weights for one layout of the operands. Safe to use from several threads."""

    __slots__ = (
        "_arguments",
        "_device",
        "_epoch",
        "_extents",
        "_function",
        "_grid",
        "_hip",
        "_sizes",
        "_state",
        "_template",
        "problem",
        "selection",
    )

    def __init__(self, library: Library, state: State, problem: GroupedProblem, weights: DeviceStack, selection: Selection):
        kernel, slices = selection.kernel, selection.slices
        self.problem, self.selection = problem, selection
        self._hip: Hip = library.hip
        self._state, self._device = state, weights.device
        self._epoch = self._hip.epoch(weights.device)
        self._function = modules.LOADED.function(self._hip, library.manifest, kernel, weights.device, state.id)
        self._grid = kernel.grid.size(m=problem.rows, n=problem.n, k=problem.k, slices=slices)
        self._sizes = partial_bytes(kernel, problem.rows, problem.n, slices), counter_bytes(kernel, problem.rows, problem.n, slices)
        self._template = kernarg(kernel, problem, weights, library.arch, slices)
        arguments = {argument.name: argument for argument in kernel.kernarg.args}
        self._arguments = {name: word(kernel, arguments, name) for name in (*_OPERANDS, "p", "t")}
        self._extents = problem.extents()

    def run(self, addresses: Mapping[str, int], stream: int) -> None:
        """Launch, asynchronously, with these operands: a, c, ids, experts, valid, and route, bias, residual where the options
        have them. OperandError, HipError, ClosedError."""
        kernel = self.selection.kernel
        if self._state.closed:
            raise ClosedError(self._state.closed)
        if self._epoch.over:
            raise was_reset(self._device)
        self._check(addresses)
        given = dict(addresses)
        if self._sizes[0]:
            space = self._state.workspaces_of(self._hip, self._epoch).at_least(stream, *self._sizes)
            given |= {"p": space.partials, "t": space.counters}
        words, extra, alive = slot_of(self._hip, self._template, kernel)
        for name, address in given.items():
            words[self._arguments[name][0]] = address
        names = self._state.names(self._device)
        with self._hip.on(self._device):
            queue = self._hip.stream(stream)
            result = self._hip.launch(self._function, *self._grid, kernel.block, 1, 1, 0, queue, None, extra)
        del alive
        if result[0] is not self._hip.success:
            doing = f"launching {kernel.name}"
            raise self._hip.error("hipModuleLaunchKernel", result[0], doing, tuple(names), self._device)
        names.append(kernel.name)

    def _check(self, addresses: Mapping[str, int]) -> None:
        """Every operand where a kernel can read it, and C apart from all that is read: rows of it are written in any order."""
        first, size = addresses["c"], self._extents["c"]
        for name, needed in self._extents.items():
            address = addresses.get(name, 0)
            if needed and (not address or address & self._arguments[name][1]):
                mask = self._arguments[name][1] & 0xFFFF
                raise OperandError(f"{_SAID[name]} start at {address:#x}: {self.selection.kernel.name} needs a multiple of"
                                   f" {mask + 1} bytes; copy them to memory of their own")  # fmt: skip
            same = name == "c" or (name == "residual" and address == first and self.problem.ldr == self.problem.ldc)
            if needed and not same and address < first + size and first < address + needed:
                raise OperandError(f"{_SAID[name]} at {address:#x} overlap out at {first:#x}: give out memory of its own")


_SAID = {
    "a": "x",
    "c": "out",
    "ids": "sorted ids",
    "experts": "sorted experts",
    "valid": "valid ids",
    "route": "routing weights",
    "bias": "biases",
    "residual": "residuals",
}
