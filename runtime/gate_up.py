"""Gate and up projections as one weight, for the SwiGLU that a kernel applies to its result (runtime/epilogue.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import PackError
from runtime.packing import PackedWeight, pack


def pack_gate_up(format: str, gate: tuple[Any, ...], up: tuple[Any, ...]) -> PackedWeight:
    """Pack two weights [N, K] as one [2 N, K] with their rows in turn, gate first: lib.gemm(x, w, activation="swiglu")
    is silu(x @ gate^T) * (x @ up^T), [M, N].

    gate, up  what pack takes after the format: weight, weight_scale, and weight_scale_2 where there is one. numpy arrays or
              torch tensors
    PackError if they are no such tensors, or of different shapes.
    """
    if len(gate) != len(up) or not 2 <= len(gate) <= 3:
        raise PackError(f"gate has {len(gate)} tensors, up {len(up)}: both need weight, weight_scale and, where the"
                        " format has one, weight_scale_2")  # fmt: skip
    shapes = [tuple(getattr(tensors[0], "shape", ())) for tensors in (gate, up)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise PackError(f"gate is {list(shapes[0])}, up {list(shapes[1])}: two weights of one shape are needed")
    one_a_row = 1 if format == "fp8" else 2  # which of the tensors has a scale for a row, or for all of them
    parts = []
    for i, pair in enumerate(zip(gate, up, strict=True)):
        both = (_rows(scale, shapes[0][0], i) for scale in pair) if i == one_a_row else pair
        parts.append(_in_turn(*both))
    return pack(format, *parts)


def _in_turn(gate: Any, up: Any) -> Any:
    """Rows of both, [2 N, ...]."""
    if hasattr(gate, "detach"):
        import torch

        pairs = torch.stack([gate.detach().cpu().view(_plain(gate)), up.detach().cpu().view(_plain(up))], dim=1)
        return pairs.flatten(0, 1).view(gate.dtype)
    return np.stack([gate, up], axis=1).reshape(2 * len(gate), *np.shape(gate)[1:])


def _plain(tensor: Any) -> Any:
    """A type of the same size that torch can stack: it cannot all of the eight-bit floats."""
    import torch

    return torch.uint8 if tensor.element_size() == 1 else tensor.dtype


def _rows(scale: Any, n: int, place: int) -> NDArray[np.float32]:
    """A scale for each row."""
    values = np.asarray(scale.detach().cpu().float() if hasattr(scale, "detach") else scale)
    if values.size not in (1, n):
        name = "weight_scale_2" if place == 2 else "weight_scale"
        raise PackError(f"{name} has shape {list(values.shape)}: a scalar or [N] = [{n}] is needed")
    return np.broadcast_to(values.reshape(-1), n)
