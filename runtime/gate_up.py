"""Gate and up projections as one weight, for the SwiGLU that a kernel applies to its result (runtime/epilogue.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import PackError
from runtime.formats import BRICK_N
from runtime.packing import PackedWeight, pack


def pack_gate_up(format: str, gate: Sequence[Any], up: Sequence[Any]) -> PackedWeight:
    """Pack two weights [N, K] as one [2 N, K] with their rows in turn, gate first: lib.gemm(x, w, activation="swiglu")
    is silu(x @ gate^T) * (x @ up^T), [M, N].

    gate, up  what pack takes after the format: weight, weight_scale, and weight_scale_2 where the format has one. Each
              is packed by itself, so their types may differ
    PackError for what pack refuses, and for weights of different shapes.
    """
    for name, tensors in (("gate", gate), ("up", up)):
        if not isinstance(tensors, Sequence) or not 2 <= len(tensors) <= 3:
            raise PackError(f"{name} has to be (weight, weight_scale), or (weight, weight_scale, weight_scale_2) for a"
                            f" format that has one; it is a {type(tensors).__name__}")  # fmt: skip
    first, second = pack(format, *gate), pack(format, *up)
    if (first.n, first.k) != (second.n, second.k):
        raise PackError(f"gate is [{first.n}, {first.k}], up [{second.n}, {second.k}]: weights of one shape are needed")
    n = first.n
    scales_2 = (np.broadcast_to(packed.weight_scale_2, n) for packed in (first, second))
    return PackedWeight(
        format,
        2 * n,
        first.k,
        _codes(first.codes, second.codes, n),
        _columns(first.scales, second.scales, n),
        np.stack([first.outer, second.outer], axis=1).reshape(-1),
        np.stack([*scales_2], axis=1).reshape(-1),
    )


def _codes(gate: NDArray[np.uint8], up: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Codes [bricks of K, bricks of N, ..., lanes, bytes] of both: lane 16 * quad + column has what is that column's."""
    size = gate.shape[-1]
    parts = [part.reshape(*part.shape[:2], -1, BRICK_N, size).transpose(0, 2, 1, 3, 4) for part in (gate, up)]
    depth, quads = parts[0].shape[:2]
    first, second = (part.reshape(depth * quads, -1, size) for part in parts)
    bricks = _in_turn(first, second, n).reshape(depth, quads, -1, BRICK_N, size).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(bricks).reshape(depth, -1, *gate.shape[2:])


def _columns(gate: NDArray[np.uint8], up: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """Scales [bricks of K, bricks of N, columns, bytes] of both."""
    first, second = (part.reshape(part.shape[0], part.shape[1] * BRICK_N, part.shape[3]) for part in (gate, up))
    both = _in_turn(first, second, n)
    return both.reshape(both.shape[0], both.shape[1] // BRICK_N, BRICK_N, both.shape[2])


def _in_turn(gate: NDArray[np.uint8], up: NDArray[np.uint8], n: int) -> NDArray[np.uint8]:
    """[..., columns, bytes] of both, of which n columns count, in turn; zeros up to whole bricks."""
    both = np.stack([gate[:, :n], up[:, :n]], axis=2).reshape(gate.shape[0], 2 * n, gate.shape[2])
    return np.pad(both, ((0, 0), (0, -2 * n % BRICK_N), (0, 0)))
