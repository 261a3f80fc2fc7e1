"""Stacks of weights with their float64 answers, from the verifier's inputs and reference."""

from __future__ import annotations

from typing import Any

import numpy as np

import runtime
from petitgen.verify.checkpoints import Checkpoint
from petitgen.verify.compare import compare
from petitgen.verify.floats import FLOAT_TYPES
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.reference import dequantize, evaluate
from petitgen.verify.shapes import Shape

N, K, EXPERTS = 72, 144, 4


def problems(activations: str, n: int = N, k: int = K, experts: int = EXPERTS) -> list[Problem]:
    """One GEMM of a row for each expert: their weights."""
    return [make_problem(Shape(1, n, k), activations, "nvfp4", seed=seed) for seed in range(experts)]


def stacked(given: list[Problem]) -> runtime.PackedStack:
    return runtime.stack([runtime.pack("nvfp4", *one.weights.tensors) for one in given])


def activations_of(rows: int, activations: str, k: int = K) -> np.ndarray:
    return make_problem(Shape(rows, 1, k), activations, "nvfp4", seed=99).a


def wrong(lib: Any, y: np.ndarray, x: np.ndarray, given: list[Problem], expert: np.ndarray) -> list[str]:
    """What differs from each expert's own product. x: a row for each row of y; expert: of each."""
    found = []
    tolerance = next(iter(lib.kernels.values())).tolerance
    for number, one in enumerate(given):
        rows = np.flatnonzero(expert == number)
        problem = Problem(Shape(rows.size, y.shape[1], x.shape[1]), one.float_type, x[rows], one.weights, (), ())
        reference = evaluate(problem, flushes=lib.arch == "gfx90a", sums=2.0**-22)
        if rows.size:
            found.append(compare(y[rows], reference, tolerance, one.float_type.name))
    return [str(one) for one in found if one]


def moderate(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32).astype(FLOAT_TYPES["bf16"].dtype)


def ordinary(seed: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tensors of a NVFP4 weight without awkward values."""
    rng = np.random.default_rng(seed)
    scales = rng.integers(0x30, 0x48, (n, k // 16)).astype(np.uint8)
    return rng.integers(0, 256, (n, k // 2)).astype(np.uint8), scales, np.float32(0.01)


def dense(tensors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    w, outer = dequantize(Checkpoint(tensors[0], tensors[1], np.full(len(tensors[0]), tensors[2], np.float32)))
    return w * outer[:, None]


