"""The sanitizer on the smallest kernel of every family, at some of the problems that verification has for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from petitgen.build.run import build
from petitgen.spec import load_catalog
from petitgen.spec.model import GemmInstance, KernelInstance
from petitgen.verify import Target, run
from petitgen.verify.shapes import Shape, default_shapes, in_epilogues, in_slices


def family(one: KernelInstance) -> tuple[str, ...]:
    """What decides which parts of which templates a kernel has. Types of results, and of the floats that kernels without a
    product read or make, differ in a few instructions."""
    types = one.activations.name if isinstance(one, GemmInstance) else ""
    return one.op, one.format, types, one.arch.name, one.template


def size(one: KernelInstance) -> tuple[int, str]:
    area = one.tile.m * one.tile.n * one.tile.k if isinstance(one, GemmInstance) else 0
    return area, one.name


def smallest() -> Iterator[KernelInstance]:
    instances = load_catalog().instances
    for key in sorted({family(one) for one in instances}):
        yield min((one for one in instances if family(one) == key), key=size)


def some_shapes(one: KernelInstance) -> tuple[Shape, ...] | None:
    """Of a GEMM: ragged edges, gaps, many tiles, in one slice and in several, with epilogues."""
    if one.op != "gemm":
        return None
    tile, multiple = one.tile.figures(), one.constraints.k_multiple
    shapes = default_shapes(tile, multiple, one.constraints.max_pitch)
    return (*shapes[::6], *in_slices(shapes)[::4], *in_epilogues(tile, multiple)[::4])


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize("one", smallest(), ids=lambda one: one.name)
def test_the_sanitizer_finds_nothing(one, tmp_path):
    assert not build([one], [one], tmp_path).failed
    target = Target(tmp_path / one.arch.name / "manifest.json", one.name)
    report = run([target], shapes=some_shapes(one), jobs=1, sanitize=True)
    assert report.ok, [case.findings for case in report.kernels[0].cases if not case.ok]
