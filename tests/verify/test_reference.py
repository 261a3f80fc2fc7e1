"""The float64 reference against sums written out by hand from the format definitions."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from petitgen.verify.checkpoints import SCHEMES, Checkpoint
from petitgen.verify.floats import BF16, FP16
from petitgen.verify.inputs import Problem, make_problem
from petitgen.verify.reference import dequantize, evaluate
from petitgen.verify.shapes import Shape

E2M1_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # OCP Microscaling Formats v1.0, table 5


def e4m3fn(code: int) -> float:
    """The value of an E4M3FN code, from its bit fields (OCP 8-bit floating point, revision 1.0)."""
    exponent, mantissa = code >> 3 & 15, code & 7
    if code & 0x7F == 0x7F:
        return float("nan")
    magnitude = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
    return -magnitude if code & 0x80 else magnitude


def e2m1(code: int) -> float:
    return -E2M1_MAGNITUDES[code & 7] if code & 8 else E2M1_MAGNITUDES[code & 7]


def one_by_one(a, codes, scales, outer, float_type=BF16) -> Problem:
    """A problem from code values [N, K] and tensors, packed nibble by nibble."""
    weight = np.zeros((codes.shape[0], codes.shape[1] // 2), np.uint8)
    for n in range(codes.shape[0]):
        for byte in range(weight.shape[1]):
            weight[n, byte] = int(codes[n, 2 * byte]) + 16 * int(codes[n, 2 * byte + 1])
    checkpoint = Checkpoint(weight, scales.astype(np.uint8), outer.astype(np.float32))
    shape = Shape(a.shape[0], codes.shape[0], codes.shape[1])
    return Problem(shape, float_type, a.astype(float_type.dtype), checkpoint, (), ())


def mx_problem(a, codes, scales, float_type=BF16) -> Problem:
    """The same for MXFP4."""
    nv = one_by_one(a, codes, scales, np.ones(codes.shape[0]), float_type)
    weights = Checkpoint(nv.weights.weight, nv.weights.weight_scale, None, "mxfp4")
    return Problem(nv.shape, float_type, nv.a, weights, (), ())


def test_every_code_under_every_scale_is_dequantized_as_the_formats_define():
    codes = np.tile(np.arange(16), (256, 1))
    problem = one_by_one(np.ones((1, 16)), codes, np.arange(256)[:, None], np.ones(256))
    expected = [[e2m1(code) * e4m3fn(scale) for code in range(16)] for scale in range(256)]
    np.testing.assert_array_equal(dequantize(problem.weights)[0], expected)


def test_a_product_written_out_term_by_term():
    rng = np.random.default_rng(1)
    m, n, k = 3, 4, 48
    a = rng.integers(-8, 8, (m, k)) / 4
    codes, scales = rng.integers(0, 16, (n, k)), rng.integers(0, 0x7F, (n, k // 16))
    outer = np.array([1.0, 0.5, 2.0**-20, 3.0])
    reference = evaluate(one_by_one(a, codes, scales, outer), flushes=False)
    for i in range(m):
        for j in range(n):
            terms = [a[i, q] * e2m1(codes[j, q]) * e4m3fn(scales[j, q // 16]) * outer[j] for q in range(k)]
            assert reference.y[i, j] == pytest.approx(sum(terms), rel=1e-13, abs=1e-13)
            assert reference.magnitude[i, j] == pytest.approx(sum(map(abs, terms)), rel=1e-13)


def test_a_nan_scale_is_nan_down_its_whole_column_and_nowhere_else():
    scales = np.full((3, 2), 0x38)
    scales[1, 1] = 0xFF
    y = evaluate(one_by_one(np.zeros((2, 32)), np.zeros((3, 32), int), scales, np.ones(3)), False).y
    np.testing.assert_array_equal(np.isnan(y), [[False, True, False]] * 2)


def test_infinite_and_nan_activations_follow_ieee_754():
    codes = np.full((4, 16), 0x2)  # 1.0
    codes[1, 3], codes[2, 3] = 0xA, 0x0  # -1.0 and 0 where A is infinite
    codes[3, 4] = 0xA
    a = np.ones((3, 16))
    a[0, 3], a[1, 3:5], a[2, 0] = np.inf, np.inf, np.nan
    y = evaluate(one_by_one(a, codes, np.full((4, 1), 0x38), np.ones(4)), False).y
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(y, [[inf, -inf, nan, inf], [inf, nan, nan, nan], [nan] * 4])


def test_underflow_is_granted_only_where_f32_ends():
    tiny = np.full((1, 16), 2.0**-130)
    ones = (np.full((1, 16), 0x2), np.full((1, 1), 0x38), np.ones(1))
    kept = evaluate(one_by_one(tiny, *ones), flushes=False)
    flushed = evaluate(one_by_one(tiny, *ones), flushes=True)
    assert kept.y[0, 0] == 16 * 2.0**-130
    assert kept.underflow[0, 0] == 16 * 2.0**-141
    assert flushed.underflow[0, 0] == 32 * 2.0**-118 + 16 * 2.0**-130
    subnormal_half = np.full((1, 16), 2.0**-20)
    half = evaluate(one_by_one(subnormal_half, *ones, float_type=FP16), flushes=True)
    assert half.underflow[0, 0] < 2.0**-110 < half.y[0, 0]  # nothing is granted here


# ---- AMD-FP4 --------------------------------------------------------------------------------------


def test_every_amdfp4_code_under_every_scale_alone_in_its_row():
    """UE5M3 has the bits of a positive fp16 number but for its last seven, and goes on where that becomes infinite."""
    halves = (np.arange(256) << 7).astype(np.uint16).view(np.float16).astype(float)
    halves[0xF8:0xFF] = 2.0**16 * (1 + np.arange(7) / 8)
    codes = np.tile(np.arange(16), (256, 1))
    nv = one_by_one(np.ones((1, 16)), codes, np.arange(256)[:, None], np.full(256, 0.5)).weights
    w, outer = dequantize(Checkpoint(nv.weight, nv.weight_scale, nv.weight_scale_2, "amdfp4"))
    assert (outer == 0.5).all()
    expected = [[e2m1(code) * halves[scale] for code in range(16)] for scale in range(255)]
    np.testing.assert_array_equal(w[:255], expected)
    assert halves[0xFE] == 114688
    assert halves[1] == 2.0**-17
    assert np.isnan(w[255]).all()


# ---- MXFP4 ----------------------------------------------------------------------------------------


def test_every_mxfp4_code_under_every_scale_alone_in_its_row():
    codes = np.tile(np.arange(32) % 16, (256, 1))
    w, outer = dequantize(mx_problem(np.ones((1, 32)), codes, np.arange(256)[:, None]).weights)
    expected = [[e2m1(code % 16) * 2.0 ** (scale - 127) for code in range(32)] for scale in range(255)]
    np.testing.assert_array_equal((w * outer[:, None])[:255], expected)
    assert np.isnan(w[255]).all()


def test_an_mxfp4_product_written_out_term_by_term():
    rng = np.random.default_rng(2)
    m, n, k = 3, 4, 96
    a = rng.integers(-8, 8, (m, k)) / 4
    codes, scales = (
        rng.integers(0, 16, (n, k)),
        rng.integers(0, 20, (n, k // 32)) + np.array([[0], [100], [127], [230]]),
    )
    reference = evaluate(mx_problem(a, codes, scales), flushes=False)
    for i in range(m):
        for j in range(n):
            terms = [a[i, q] * e2m1(codes[j, q]) * 2.0 ** (int(scales[j, q // 32]) - 127) for q in range(k)]
            least = 1e-13 * sum(map(abs, terms))
            assert reference.y[i, j] == pytest.approx(sum(terms), rel=1e-13, abs=least)
            more_terms = 1.5**0.5  # than 64
            assert reference.magnitude[i, j] == pytest.approx(more_terms * sum(map(abs, terms)), rel=1e-13)


def test_mxfp4_blocks_count_as_zero_from_2_to_the_minus_133_of_the_largest():
    codes = np.full((1, 160), 0x2)  # 1.0
    scales = np.array([[254, 122, 121, 120, 0]])
    one_hot = np.eye(160)[::32]  # the first element of each block
    y = evaluate(mx_problem(one_hot, codes, scales), flushes=False).y
    assert y[:, 0].tolist() == [2.0**127, 2.0**-5, 0.0, 0.0, 0.0]


def test_a_nan_mxfp4_scale_is_nan_down_its_whole_column_and_nowhere_else():
    scales = np.full((3, 2), 127)
    scales[1, 1], scales[2] = 0xFF, 0xFF
    y = evaluate(mx_problem(np.zeros((2, 64)), np.zeros((3, 64), int), scales), False).y
    np.testing.assert_array_equal(np.isnan(y), [[False, True, True]] * 2)


def test_mxfp4_underflow_is_granted_beside_the_largest_scale_of_the_column():
    ones = (np.ones((1, 32)), np.full((2, 32), 0x2), np.array([[127], [227]]))
    granted = evaluate(mx_problem(*ones), flushes=False, sums=2.0**-32).underflow[0]
    assert granted.tolist() == [32 * 2.0**-117, 32 * 2.0**-17]
    assert evaluate(mx_problem(*ones), flushes=False).underflow[0, 0] == 32 * 2.0**-141


@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_mxfp4_problems_hold_every_kind(activations):
    problem = make_problem(Shape(40, 60, 32 * 7), activations, "mxfp4")
    assert set(problem.w_kinds) == set(SCHEMES["mxfp4"].kinds)
    scales = {kind: problem.weights.weight_scale[problem.w_kinds.index(kind)].astype(int) for kind in problem.w_kinds}
    assert (scales["nan scale"] == 0xFF).sum() == 1
    assert (scales["smallest scale"] == 0).all()
    assert (scales["largest scale"] == 254).all()
    assert set(scales["floor"]) == {254, 122, 121, 120, 0}  # 132 binades below the largest are kept, 133 are not
    everything = scales["any scale"]
    assert everything.max() - everything.min() > 60
    for kind, row in scales.items():
        assert (row != 0xFF).all() or kind == "nan scale"
    floor = problem.w_kinds.index("floor")
    under_largest = np.repeat(scales["floor"] == 254, 16)
    assert set(problem.weights.weight[floor][under_largest]) == {0x80}
    assert len(set(problem.weights.weight[floor][~under_largest])) > 20
    assert problem.weights.weight_scale_2 is None


def test_a_row_of_a_single_mxfp4_block_has_every_kind():
    assert make_problem(Shape(1, 60, 32), "bf16", "mxfp4").weights.weight_scale.shape == (60, 1)


def test_activations_reach_the_largest_of_the_type_where_that_is_promised():
    usual, whole = (
        make_problem(Shape(40, 2, 64), "bf16", whole_range=whole).a.astype(float) for whole in (False, True)
    )
    finite = [np.abs(a[np.isfinite(a)]).max() for a in (usual, whole)]
    assert finite == [2.0**64, 255 * 2.0**120]


@pytest.mark.parametrize("activations", ["bf16", "fp16"])
def test_problems_hold_every_kind_and_are_always_the_same(activations):
    first, again = (make_problem(Shape(40, 40, 80), activations) for _ in range(2))
    assert (len(set(first.a_kinds)), len(set(first.w_kinds))) == (14, 12)
    np.testing.assert_array_equal(first.a.view(np.uint16), again.a.view(np.uint16))
    np.testing.assert_array_equal(first.weights.weight, again.weights.weight)
    bits = first.a.view(np.uint16)[first.a_kinds.index("subnormal")] & 0x7FFF
    assert bits.min() > 0
    assert bits.max() < (0x80 if activations == "bf16" else 0x400)
    column = first.w_kinds.index("nan scale")
    assert np.isin(first.weights.weight_scale[column], (0x7F, 0xFF)).sum() == 1
    assert (first.weights.weight[first.w_kinds.index("negative zero")] == 0x88).all()
    assert first.weights.weight_scale[first.w_kinds.index("negative scale")].max() > 0x80


def test_the_first_row_is_of_any_kind():
    problems = [make_problem(Shape(1, 1, 16 * i), "fp16") for i in range(1, 60)]
    for kinds in ({p.a_kinds for p in problems}, {p.w_kinds for p in problems}):
        assert ("random",) in kinds
        assert len(kinds) > 6
    assert all("random" in make_problem(Shape(2, 2, 16 * i), "bf16").a_kinds for i in range(1, 20))


@pytest.mark.parametrize(("activations", "normal"), [("bf16", 0x80), ("fp16", 0x400)])
def test_lone_subnormals_stand_everywhere_and_alone(activations, normal):
    """One in each group of rows; over the groups every place of a 16-byte load, both ends of the range."""
    problem = make_problem(Shape(8 * 48 + 1, 3, 272, lone=48), activations)
    bits = problem.a.view(np.uint16)
    magnitude = bits & 0x7FFF
    rows, places = np.nonzero((magnitude > 0) & (magnitude < normal))
    assert (rows // 48).tolist() == list(range(9))
    assert set(places % 8) == set(range(8))
    assert len(set(places // 16)) == 9
    found = magnitude[rows, places]
    assert {1, normal - 1} <= set(found.tolist())
    assert (found > normal // 2).sum() > 3
    assert len(set((bits[rows, places] >> 15).tolist())) == 2
    assert (np.count_nonzero(magnitude[rows], axis=1) == 1).all()
    assert [problem.a_kinds[row] for row in rows] == ["lone subnormal"] * 9


def test_the_tables_of_the_reference_are_float64_and_not_float32():
    for part in dequantize(make_problem(Shape(1, 2, 16), "bf16").weights):
        assert part.dtype == np.float64
    assert np.dtype(ml_dtypes.bfloat16) == BF16.dtype
