"""The reference and the data of grouped kernels, against sums written out row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from petitgen.verify.grouped import TOKEN_BITS, evaluate_grouped, make_grouped, sort
from petitgen.verify.grouped_shapes import FAR_BYTES, SMALLEST_BLOCK, GroupedShape, default_shapes
from petitgen.verify.reference import dequantize
from runtime.epilogue import Epilogue
from runtime.manifest import Tolerance
from runtime.weights import part_bytes

TOLERANCE = Tolerance(unit=2.0**-8, accumulate=2.0**-20, sums=2.0**-16)
TILES = [
    {"m": 16, "n": 64, "k": 512, "unit": 256},
    {"m": 64, "n": 256, "k": 64, "unit": 128},
    {"m": 128, "n": 128, "k": 64, "unit": 128},
]
SHAPES = [
    GroupedShape(9, 2, 4, 6, 32),
    GroupedShape(7, 3, 5, 6, 32, slots=3, options=Epilogue.ROUTED),
    GroupedShape(12, 2, 3, 16, 32, strangers=True, options=Epilogue.BIAS | Epilogue.SWIGLU | Epilogue.ROUTED),
    GroupedShape(8, 1, 3, 5, 32, crowded=True, options=Epilogue.BIAS | Epilogue.SILU | Epilogue.ROUTED | Epilogue.RESIDUAL),
]


def by_hand(problem, row: int) -> np.ndarray:
    """A row of C, from its expert's weight and the definitions in runtime/epilogue.py."""
    shape, options = problem.shape, problem.shape.options
    index = problem.numbers.index(problem.expert[row])
    w, outer = dequantize(problem.weights[index])
    a = problem.a[row if shape.slots > 1 else row // shape.topk].astype(np.float64)
    y = np.array([sum(x * z for x, z in zip(a, column, strict=True)) for column in w]) * outer
    if options & Epilogue.BIAS:
        y = y + problem.bias[index].astype(np.float64)
    if options & Epilogue.SILU:
        y = y / (1 + np.exp(-y))
    if options & Epilogue.SWIGLU:
        y = y[0::2] / (1 + np.exp(-y[0::2])) * y[1::2]
    if options & Epilogue.ROUTED:
        y = y * np.float64(problem.route[row])
    if options & Epilogue.RESIDUAL:
        y = y + problem.residual[row].astype(np.float64)
    return y


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_reference_is_each_expert_alone(shape):
    problem = make_grouped(shape, "fp16", "nvfp4")
    reference = evaluate_grouped(problem, flushes=False, tolerance=TOLERANCE)
    assert reference.y.shape == (shape.m, shape.columns)
    compared = 0
    for row in np.flatnonzero(problem.written):
        exact = by_hand(problem, row)
        usual = np.isfinite(exact) & np.isfinite(reference.y[row]) & ~reference.free[row] & (np.abs(exact) < 1e30)
        assert np.allclose(reference.y[row][usual], exact[usual], rtol=1e-9, atol=1e-30)
        compared += usual.sum()
    assert compared > reference.y.size // 5
    assert not reference.y[~problem.written].any()


@pytest.mark.parametrize("shape", [*SHAPES, *default_shapes(TILES[0])], ids=str)
def test_sorted_rows_are_all_rows_with_their_experts(shape):
    problem = make_grouped(shape, "bf16", "nvfp4")
    sorting = sort(problem)
    assert sorting.valid % shape.block == 0
    assert sorting.ids.size == sorting.valid + shape.spare
    assert len(sorting.experts) == -(-sorting.ids.size // shape.block)
    met = []
    for place, id_ in enumerate(sorting.ids[: sorting.valid]):
        token, slot = int(id_) & (1 << TOKEN_BITS) - 1, int(id_) >> TOKEN_BITS
        if token < shape.tokens and slot < shape.topk:
            row = token * shape.topk + slot
            assert sorting.experts[place // shape.block] == problem.expert[row]
            assert sorting.weights[place] == problem.route[row]
            met.append(row)
        else:
            assert np.isnan(sorting.weights[place])
    assert sorted(met) == list(range(shape.m))


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"m{tile['m']}")
def test_problems_have_what_the_page_says(tile):
    shapes = default_shapes(tile)
    assert len(shapes) <= 12
    assert all(shape.block % tile["m"] == 0 and shape.block >= SMALLEST_BLOCK for shape in shapes)
    problems = [make_grouped(shape, "bf16", "nvfp4") for shape in shapes]
    assert any(set(p.numbers) - set(p.expert) for p in problems)  # an expert without rows
    assert any(p.shape.crowded and len(set(p.expert)) == 1 < p.shape.experts for p in problems)
    assert any(p.shape.block > tile["m"] and p.shape.m > tile["m"] for p in problems)
    strangers = [p for p in problems if not p.written.all()]
    assert any({-1, max(p.numbers) + 1} <= set(p.expert) for p in strangers)
    (far,) = (p for p in problems if p.shape.far)
    codes = part_bytes("nvfp4", far.shape.n, far.shape.k)[0]
    assert far.numbers[-1] * codes >= FAR_BYTES
    assert far.numbers[-1] in far.expert
    assert {p.shape.slots for p in problems} >= {1, 2}
    assert any(p.shape.slices > 1 for p in problems)
    assert any(p.shape.spare for p in problems)
    options = [shape.options for shape in shapes]
    for one in (Epilogue.BIAS, Epilogue.ROUTED, Epilogue.RESIDUAL, Epilogue.SWIGLU):
        assert any(one & option for option in options)


def test_padding_is_of_three_kinds_none_of_which_is_a_row():
    shape = replace(SHAPES[0], tokens=3)
    ids = sort(make_grouped(shape, "bf16", "nvfp4")).ids.astype(np.int64)
    token, slot = ids & (1 << TOKEN_BITS) - 1, ids >> TOKEN_BITS
    padding = (token >= shape.tokens) | (slot >= shape.topk)
    assert {(3, 2), (1 << 23, 0), (0, 2)} == set(zip(token[padding].tolist(), slot[padding].tolist(), strict=True))
