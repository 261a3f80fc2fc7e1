"""The comparison must see every way in which a result can be wrong, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from petitgen.verify.compare import compare
from petitgen.verify.inputs import FLOAT_TYPES, make_problem
from petitgen.verify.reference import Reference, evaluate
from petitgen.verify.shapes import Shape


@dataclass(frozen=True)
class Tolerance:
    unit: float
    accumulate: float = 2.0**-20


TOLERANCES = {"bf16": Tolerance(2.0**-8), "fp16": Tolerance(2.0**-11)}


def rounded(y, activations):
    with np.errstate(over="ignore"):
        return y.astype(np.float32).astype(FLOAT_TYPES[activations].dtype)


def exact(*values: float) -> Reference:
    """A reference without sums behind it: only the rounding of the output is allowed."""
    y = np.array([values])
    return Reference(y, np.zeros_like(y), np.zeros_like(y))


@pytest.fixture(params=["bf16", "fp16"])
def activations(request):
    return request.param


@pytest.fixture
def solved(activations):
    problem = make_problem(Shape(33, 35, 272), activations)
    return problem, evaluate(problem, flushes=False)


def test_a_correctly_rounded_result_passes(solved, activations):
    _, reference = solved
    assert compare(rounded(reference.y, activations), reference, TOLERANCES[activations], activations) is None


def test_a_single_element_two_places_off_is_seen_at_its_index(solved, activations):
    problem, reference = solved
    good = rounded(reference.y, activations)
    row, column = problem.a_kinds.index("one hot"), problem.w_kinds.index("maximum")
    assert reference.y[row, column] != 0
    bits = good.view(np.uint16).copy()
    bits[row, column] += 2  # the unit is at most one place, the nearest value at most half a place off
    found = compare(bits.view(good.dtype), reference, TOLERANCES[activations], activations)
    assert found is not None
    assert (found.index, found.count, found.total) == ((row, column), 1, good.size)
    assert found.expected == reference.y[row, column]
    assert f"C[{row}, {column}]" in str(found)
    assert f"1 of {good.size}" in str(found)


def test_a_dropped_k_tail_is_seen(solved, activations):
    problem, reference = solved
    weights = problem.weights
    weight = weights.weight.copy()
    weight[:, -8:] = 0
    short = type(weights)(weight, weights.weight_scale, weights.weight_scale_2)
    wrong = evaluate(type(problem)(problem.shape, problem.float_type, problem.a, short, (), ()), False).y
    found = compare(rounded(wrong, activations), reference, TOLERANCES[activations], activations)
    assert found is not None
    assert found.count > found.total // 4


@pytest.mark.parametrize("axis", [0, 1])
def test_swapped_neighbours_are_seen(solved, activations, axis):
    _, reference = solved
    swapped = rounded(reference.y, activations)
    order = np.arange(swapped.shape[axis])
    order[[0, 1]] = 1, 0
    assert compare(np.take(swapped, order, axis), reference, TOLERANCES[activations], activations) is not None


def test_truncation_instead_of_rounding_is_seen_where_it_exceeds_the_unit():
    y = 1 + 2.0**-10 + 2.0**-11 * 1.5
    truncated = np.array([[1 + 2.0**-10]], np.float16)
    assert compare(truncated, exact(y), TOLERANCES["fp16"], "fp16") is not None
    assert compare(np.array([[y]], np.float16), exact(y), TOLERANCES["fp16"], "fp16") is None


@pytest.mark.parametrize(
    ("y", "got", "right"),
    [
        (np.nan, np.nan, True),
        (np.nan, 0.0, False),
        (0.0, np.nan, False),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.inf, 65504.0, False),
        (1e6, np.inf, True),
        (1e6, 65504.0, False),
        (-1e6, -np.inf, True),
        (-1e6, np.inf, False),
        (65519.0, 65504.0, True),
        (60000.0, np.inf, False),
        (65500.0, np.inf, True),  # 65520 is within the unit of 65500
        (2.0**-26, 0.0, True),  # a quarter of the smallest subnormal
        (2.0**-24, 0.0, False),
        (0.0, 2.0**-24, False),
        (0.0, -0.0, True),
    ],
)
def test_edges_of_the_fp16_range(y, got, right):
    found = compare(np.array([[got]], np.float16), exact(y), TOLERANCES["fp16"], "fp16")
    assert (found is None) == right


def test_accumulation_error_is_granted_in_proportion_to_the_sum_of_magnitudes():
    reference = Reference(np.zeros((1, 2)), np.array([[1.0, 1.0]]), np.zeros((1, 2)))
    got = np.array([[2.0**-20, 2.0**-19]], np.float32)
    found = compare(got, reference, TOLERANCES["fp16"], "fp16")
    assert found is not None
    assert (found.index, found.count) == ((0, 1), 1)
