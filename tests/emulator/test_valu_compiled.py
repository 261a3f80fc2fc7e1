"""Ufuncs made by numba: nothing is compiled before it is needed, and an unwritable cache does no harm."""

from __future__ import annotations

import subprocess
import sys

import numba
import numpy as np
import pytest

from petitgen.emulator import compiled, registry


def triple(a, b, c):
    return a * b + c


def test_loading_every_op_compiles_nothing() -> None:
    program = (
        "from petitgen.emulator import compiled, registry\n"
        "registry.load()\n"
        "lazy = [op for op in registry.OPS.values() if isinstance(op.function, compiled.LazyUfunc)]\n"
        "assert len(lazy) > 20 and all(op.function._ufunc is None for op in lazy)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_it_is_a_ufunc_that_writes_where_told() -> None:
    ufunc = compiled.compiled("u4(u4,u4,u4)")(triple).ufunc
    assert isinstance(ufunc, np.ufunc)
    out = np.zeros((2, 64), np.uint32)
    column = np.array([[3], [5]], np.uint32)
    assert ufunc(column, np.uint32(7), np.arange(64, dtype=np.uint32), out=out) is out
    np.testing.assert_array_equal(out, 7 * column + np.arange(64))


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba as it behaves where neither the source tree nor the user's cache directory can be written."""

    def refusing(original):
        def decorate(*arguments, cache=False, **options):
            if cache:
                raise RuntimeError("cannot cache function 'triple': no locator available for file")
            return original(*arguments, **options)

        return decorate

    monkeypatch.setattr(numba, "vectorize", refusing(numba.vectorize))
    monkeypatch.setattr(numba, "njit", refusing(numba.njit))


@pytest.mark.usefixtures("no_cache")
def test_ufuncs_do_without_a_cache() -> None:
    ufunc = compiled.compiled("u4(u4,u4,u4)")(triple)
    assert ufunc(np.uint32(6), np.uint32(7), np.uint32(8)) == 50


@pytest.mark.usefixtures("no_cache")
def test_loops_do_without_a_cache() -> None:
    assert compiled.loops(triple)(6, 7, 8) == 50


def test_other_faults_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments, **options):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "vectorize", failing)
    with pytest.raises(RuntimeError, match="something else"):
        _ = compiled.compiled("u4(u4,u4,u4)")(triple).ufunc


def test_a_mnemonic_has_one_meaning() -> None:
    registry.load()
    with pytest.raises(ValueError, match="v_add_u32 are defined twice"):
        registry.alias("v_add_u32", np.add)


def test_unknown_keywords_are_refused() -> None:
    def op_with_typo(a, *, mod):
        return a

    with pytest.raises(ValueError, match="unknown keyword"):
        registry.alias("v_never_was", op_with_typo)
    assert "v_never_was" not in registry.OPS
