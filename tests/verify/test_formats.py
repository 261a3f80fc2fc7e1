"""The packed form means what the reference says: a GEMM in numpy, from packed bytes by docs/formats.md, verifies as a kernel
would, and does not when it reads them in any other way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from petitgen.verify.compare import compare
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.reference import evaluate
from petitgen.verify.shapes import Shape
from runtime.formats import ORDERS
from runtime.orders import reorder, rescale
from runtime.packing import PackedWeight, pack

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
SHAPE = Shape(40, 70, 32 * 11)


@dataclass(frozen=True)
class Tolerance:
    unit: float
    accumulate: float = 2.0**-20


TOLERANCES = {"bf16": Tolerance(2.0**-8), "fp16": Tolerance(2.0**-11)}


def codes_of(packed: PackedWeight, order: str) -> np.ndarray:
    """The codes [N, K] of a packed weight, out of its dwords bit by bit."""
    tiles_k, tiles_n = packed.codes.shape[:2]
    words = np.ascontiguousarray(reorder(packed.codes, order)).reshape(tiles_k, tiles_n, 4, 16, 16).view("<u8")
    codes = np.zeros((*words.shape, 16), np.uint8)
    for i, bits in enumerate(ORDERS[order]):
        for bit in bits:
            codes[..., i] = codes[..., i] << 1 | (words >> np.uint64(bit) & np.uint64(1)).astype(np.uint8)
    # [tiles k][tiles n][quad][n][pair][c odd][g][j] -> [N][K] with k = 128 tile + 64 pair + 32 odd + 16 g + 4 quad + j
    by_place = codes.reshape(tiles_k, tiles_n, 4, 16, 2, 2, 2, 4).transpose(1, 3, 0, 4, 5, 6, 2, 7)
    return by_place.reshape(16 * tiles_n, 128 * tiles_k)[: packed.n, : packed.k]


def scale_bytes(packed: PackedWeight, places: list[int]) -> np.ndarray:
    """The scale bytes [N, K/block], group i at places[i] of its brick."""
    tiles_k, tiles_n = packed.scales.shape[:2]
    bricks = packed.scales[..., places].transpose(1, 2, 0, 3).reshape(16 * tiles_n, tiles_k * len(places))
    return bricks[: packed.n, : packed.k * len(places) // 128]


def e4m3(byte: np.ndarray) -> np.ndarray:
    """E4M3FN without NaN: packing has told the outer scale about those."""
    exponent, mantissa = (byte >> 3 & 15).astype(float), (byte & 7).astype(float)
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10))
    return np.where(byte & 0x80, -value, value)


def window(byte: np.ndarray) -> np.ndarray:
    """NVFP4 scales of order window: fp16's exponent and three bits of its mantissa, 2^7 too large; NaN are tiny scales."""
    exponent, mantissa = (byte >> 3).astype(float), (byte & 7).astype(float)
    usual = np.where(byte == 0, 0.0, (8 + mantissa) * 2.0 ** (exponent - 15 - 3 - 7))
    return np.where(exponent == 31, mantissa * 2.0**-9, usual)


def mx(byte: np.ndarray) -> np.ndarray:
    return np.where(byte == 0, 0.0, 2.0 ** (byte.astype(float) - 190))


PLACES = {"nvfp4": [0, 4, 2, 6, 1, 5, 3, 7], "mxfp4": [0, 2, 1, 3]}
SCALES = {"nvfp4": e4m3, "mxfp4": mx}


def gemm(
    problem: Problem, order: str = "fp16", scales=SCALES, places=PLACES, read_as: str = "", outer=1.0
) -> np.ndarray:
    """C in the type of A. read_as: the order that the kernel takes the codes for."""
    name = problem.weights.format
    packed = pack(name, *problem.weights.tensors)
    if order == "window":
        packed = replace(packed, scales=rescale(packed.scales, name, order))
        scales = {**scales, "nvfp4": window}
    if read_as:
        packed = replace(packed, codes=reorder(reorder(packed.codes, order), "fp16", given=read_as))
        order = read_as
    codes = codes_of(packed, order)
    values = np.where(codes & 8, -E2M1[codes & 7], E2M1[codes & 7])
    per_block = scales[name](scale_bytes(packed, places[name]))
    w = values * np.repeat(per_block, problem.shape.k // per_block.shape[1], axis=1)
    with np.errstate(all="ignore"):
        sums = problem.a.astype(np.float64) @ w.T
        return (sums * packed.outer.astype(np.float64) * outer).astype(np.float32).astype(problem.a.dtype)


def verdict(problem: Problem, c: np.ndarray):
    name = problem.float_type.name
    return compare(c, evaluate(problem, flushes=False), TOLERANCES[name], name)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("activations", ["bf16", "fp16"])
@pytest.mark.parametrize("weights", ["nvfp4", "mxfp4"])
def test_what_the_document_says_verifies(weights, activations, order):
    problem = make_problem(SHAPE, activations, weights, whole_range=True)
    assert verdict(problem, gemm(problem, order)) is None


def bytes_as(change):
    return {name: lambda byte, name=name: change(SCALES[name](byte)) for name in SCALES}


WRONG = {
    "groups at their own places": {"places": {"nvfp4": list(range(8)), "mxfp4": list(range(4))}},
    "the order of other kernels": {"order": "bf16", "read_as": "fp16"},
    "scales twice as large": {"scales": bytes_as(lambda scale: 2 * scale)},
    "outer twice as large": {"outer": 2.0},
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("weights", ["nvfp4", "mxfp4"])
def test_any_other_reading_does_not(weights, wrong):
    problem = make_problem(SHAPE, "bf16", weights)
    assert verdict(problem, gemm(problem, **WRONG[wrong])) is not None


MX_WRONG = {
    "byte 0 is 2^-190, not zero": (lambda byte: 2.0 ** (byte.astype(float) - 190), {"floor"}),
    "bytes below 128 are zero": (lambda byte: np.where(byte < 128, 0, mx(byte)), {"floor"}),
    "byte 58 is zero": (lambda byte: np.where(byte == 58, 0, mx(byte)), {"floor"}),
    "the largest byte is 254": (lambda byte: mx(byte) * 2.0**64, set()),
    "scales are signed": (lambda byte: np.where(byte & 0x80, -mx(byte & 0x7F), mx(byte)), set()),
}


@pytest.mark.parametrize("wrong", MX_WRONG)
def test_mxfp4_scales_read_wrongly_do_not_verify(wrong):
    """With activations up to the largest, each of these shows; near the floor only in the column made for it."""
    scale, kinds = MX_WRONG[wrong]
    problem = make_problem(SHAPE, "bf16", "mxfp4", whole_range=True)
    found = verdict(problem, gemm(problem, scales={"mxfp4": scale}))
    assert found is not None
    if kinds:
        columns = [j for j, kind in enumerate(problem.w_kinds) if kind not in {*kinds, "any scale"}]
        c, reference = gemm(problem, scales={"mxfp4": scale}), evaluate(problem, flushes=False)
        part = type(reference)(*(getattr(reference, f)[:, columns] for f in ("y", "magnitude", "underflow")))
        assert compare(c[:, columns], part, TOLERANCES["bf16"], "bf16") is None
