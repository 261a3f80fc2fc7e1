"""Problems of a grouped GEMM, and what C must be, expert by expert in float64."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petitgen.verify.checkpoints import Checkpoint
from petitgen.verify.epilogue import F32_END, Extra, apply, make_extra
from petitgen.verify.floats import FloatType
from petitgen.verify.grouped_shapes import FAR_BYTES, GroupedShape
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.reference import F32_SMALLEST_SUBNORMAL, Reference, evaluate
from runtime.epilogue import Epilogue
from runtime.manifest import Tolerance
from runtime.weights import part_bytes

TOKEN_BITS = 24


@dataclass(frozen=True, slots=True, eq=False)
class Sorting:
    """Rows sorted by expert, as MoE layers hand them over.

    ids      u32 [rows]: token + slot * 2^24; padding has a token or slot that there is none of
    experts  i32: of each block of rows
    valid    rows that count
    weights  f32 [rows]
    """

    ids: NDArray[np.uint32]
    experts: NDArray[np.int32]
    valid: int
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class GroupedProblem:
    """One problem. numbers: of the experts that have weights; expert: of each row of C, any number; bias: of each expert."""

    shape: GroupedShape
    float_type: FloatType
    a: NDArray
    a_kinds: tuple[str, ...]
    numbers: tuple[int, ...]
    weights: tuple[Checkpoint, ...]
    w_kinds: tuple[tuple[str, ...], ...]
    expert: NDArray[np.int64]
    route: NDArray[np.float32]  # of each row of C
    bias: tuple[NDArray, ...]
    residual: NDArray | None

    @property
    def written(self) -> NDArray[np.bool_]:
        """Rows of C that have an expert."""
        return np.isin(self.expert, self.numbers)


def make_grouped(shape: GroupedShape, activations: str, weights: str, whole_range: bool = False) -> GroupedProblem:
    """The problem for a shape: always the same for the same arguments."""
    rng = np.random.default_rng(zlib.crc32(f"{shape} {weights} {activations}".encode()))
    whole = make_problem(shape.plain, activations, weights, whole_range=whole_range)
    one = replace(shape.plain, m=1)
    problems = [make_problem(one, activations, weights, 1 + e, whole_range) for e in range(shape.experts)]
    numbers = _numbers(shape, weights)
    extras = [make_extra(rng, shape.options & ~Epilogue.RESIDUAL, 1, shape.n, whole.float_type) for _ in numbers]
    residual = make_extra(rng, shape.options & ~Epilogue.BIAS, shape.m, shape.n, whole.float_type).residual
    route = (rng.uniform(-2, 2, shape.m) * rng.choice([0.0, 1.0, 1.0, 1.0], shape.m)).astype(np.float32)
    return GroupedProblem(
        shape,
        whole.float_type,
        whole.a,
        whole.a_kinds,
        numbers,
        tuple(problem.weights for problem in problems),
        tuple(problem.w_kinds for problem in problems),
        _experts(rng, shape, numbers),
        route,
        tuple(extra.bias for extra in extras if extra.bias is not None),
        residual,
    )


def _numbers(shape: GroupedShape, weights: str) -> tuple[int, ...]:
    """Those of the experts: the last may be so large that its codes, the largest part, are far behind the first's."""
    numbers = list(range(shape.experts))
    if shape.far:
        numbers[-1] = FAR_BYTES // part_bytes(weights, shape.n, shape.k)[0] + 1
    return tuple(numbers)


def _experts(rng: Generator, shape: GroupedShape, numbers: tuple[int, ...]) -> NDArray[np.int64]:
    """The expert of each row of C, distinct for the slots of a token. The second expert, if there are several, has none."""
    if shape.crowded:
        return np.full(shape.m, numbers[-1])
    pool = [number for i, number in enumerate(numbers) if i != 1]
    pool += [-1, max(numbers) + 1] if shape.strangers else []
    return np.concatenate([rng.choice(pool, shape.topk, replace=len(pool) < shape.topk) for _ in range(shape.tokens)])


def sort(problem: GroupedProblem) -> Sorting:
    """Rows in blocks of one expert each, in no order; three kinds of padding by turns; what is spare looks real."""
    shape, rng = problem.shape, np.random.default_rng(problem.shape.m)
    padding = [shape.topk << TOKEN_BITS | shape.tokens, 1 << TOKEN_BITS - 1, shape.topk << TOKEN_BITS]
    ids: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float32]] = []
    experts: list[int] = []
    for number in np.unique(problem.expert):
        rows = rng.permutation(np.flatnonzero(problem.expert == number))
        token, slot = np.divmod(rows, shape.topk)
        missing = -rows.size % shape.block
        order = -1 if shape.strangers else 1  # padding is last, or first
        ids += [token | slot << TOKEN_BITS, np.resize(padding, missing)][::order]
        weights += [problem.route[rows], np.full(missing, np.nan, np.float32)][::order]
        experts += [int(number)] * ((rows.size + missing) // shape.block)
    valid = len(experts) * shape.block
    ids.append(np.arange(shape.spare) % shape.tokens)
    weights.append(np.full(shape.spare, 3, np.float32))
    experts += [0] * -(-shape.spare // shape.block)
    return Sorting(
        np.concatenate(ids).astype(np.uint32),
        np.array(experts, np.int32),
        valid,
        np.concatenate(weights).astype(np.float32),
    )


def evaluate_grouped(problem: GroupedProblem, flushes: bool, tolerance: Tolerance) -> Reference:
    """The reference of every row of C; zeros for those that have no expert. flushes: as for evaluate."""
    shape = problem.shape
    y, magnitude, underflow = (np.zeros((shape.m, shape.columns)) for _ in range(3))
    free = np.zeros((shape.m, shape.columns), bool)
    for index, number in enumerate(problem.numbers):
        rows = np.flatnonzero(problem.expert == number)
        if rows.size:
            part = _of_expert(problem, index, rows, flushes, tolerance)
            y[rows], magnitude[rows], underflow[rows] = part.y, part.magnitude, part.underflow
            free[rows] = False if part.free is None else part.free
    return Reference(y, magnitude, underflow, free)


def _of_expert(
    problem: GroupedProblem, index: int, rows: NDArray[np.int64], flushes: bool, tolerance: Tolerance
) -> Reference:
    shape, options = problem.shape, problem.shape.options
    a = problem.a[rows if shape.slots > 1 else rows // shape.topk]
    one = Problem(replace(shape.plain, m=rows.size), problem.float_type, a, problem.weights[index], (), ())
    bias = problem.bias[index] if problem.bias else None
    before = Extra(options & ~(Epilogue.ROUTED | Epilogue.RESIDUAL), bias, None)
    done = apply(evaluate(one, flushes, tolerance.sums), before, tolerance.accumulate)
    y, magnitude, underflow = done.y, done.magnitude, done.underflow
    free = np.zeros(y.shape, bool) if done.free is None else done.free
    with np.errstate(invalid="ignore", over="ignore"):
        if options & Epilogue.ROUTED:
            bound = tolerance.accumulate * magnitude + underflow
            free = free | np.isfinite(y) & (np.abs(np.abs(y) - F32_END) <= bound)
            y = np.where(np.abs(y) < F32_END, y, y * np.inf)  # a float32, too; NaN stays
            weight = problem.route[rows, None].astype(np.float64)
            y, magnitude, underflow = y * weight, magnitude * np.abs(weight), underflow * np.abs(weight)
            underflow = underflow + F32_SMALLEST_SUBNORMAL
        if problem.residual is not None:
            residual = problem.residual[rows].astype(np.float64)
            y, magnitude = y + residual, magnitude + np.abs(residual)
    return Reference(y, magnitude, underflow, free)
