"""Float atomics of DS without the old value, compare and store of floats, packed sums with the old value, and
exchanges at two addresses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from .test_lds import BOTH, LANE, MASK, RNG, lds, load, machine, on, store, words


def pair_of(first: int, size: int) -> str:
    return f"v{first}" if size == 4 else f"v[{first}:{first + size // 4 - 1}]"


def rows(first: int, values: np.ndarray) -> dict[str, np.ndarray]:
    """Registers from `first` on that hold one value a lane."""
    raw = np.ascontiguousarray(values).view(np.uint32).reshape(64, -1)
    return {f"v{first + k}": raw[:, k] for k in range(raw.shape[1])}


@BOTH
@pytest.mark.parametrize("name", ["add_f32", "min_f32", "max_f32", "add_f64", "min_f64", "max_f64"])
def test_float_atomics_without_the_old_value(arch, name):
    dtype = np.float32 if name.endswith("32") else np.float64
    start, data = (RNG.standard_normal(n).astype(dtype) for n in (4, 64))
    m = machine(arch, MASK, v0=LANE % 4 * start.itemsize, **rows(4, data))
    m.batch.lds[: start.nbytes] = start.view(np.uint8)
    m.run(f"ds_{name} v0, {pair_of(4, start.itemsize)}")
    pick = {"add": lambda a, b: dtype(a + b), "min": min, "max": max}[name[:3]]
    for lane in np.flatnonzero(on(MASK)):
        start[lane % 4] = pick(start[lane % 4], data[lane])
    assert m.batch.lds[: start.nbytes].tobytes() == start.tobytes()


@BOTH
@pytest.mark.parametrize("rtn", [False, True])
@pytest.mark.parametrize("bits", [32, 64])
def test_compare_and_store_of_floats(arch, bits, rtn):
    """Compared as floats: the zeros are equal, a NaN is not equal to itself; stored as bits."""
    dtype, size = (np.float32, 4) if bits == 32 else (np.float64, 8)
    some = np.array([0.0, -0.0, 1.5, -1.5, np.nan, np.inf], dtype)
    old, expected, new = some[LANE % 6], some[LANE // 6 % 6], RNG.standard_normal(64).astype(dtype)
    m = machine(arch, MASK | 0xFFFFFFFF, v0=LANE * size, **rows(4, expected), **rows(6, new))
    m.batch.lds[: 64 * size] = old.view(np.uint8)
    out = pair_of(12, size) + ", " if rtn else ""
    m.run(f"ds_cmpst_{'rtn_' if rtn else ''}f{bits} {out}v0, {pair_of(4, size)}, {pair_of(6, size)}")
    active = on(MASK | 0xFFFFFFFF)
    wanted = old.copy()
    for lane in np.flatnonzero(active):
        if float(old[lane]) == float(expected[lane]):
            wanted[lane] = new[lane]
        if rtn:
            got = np.ascontiguousarray(m.v[12 : 12 + size // 4, 0, lane])
            assert got.tobytes() == old[lane].tobytes(), lane
    assert m.batch.lds[: 64 * size].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_packed_sums_return_what_was_there(kind):
    dtype = np.float16 if kind == "f16" else ml_dtypes.bfloat16
    start, data = (RNG.standard_normal((n, 2)).astype(dtype) for n in (3, 64))
    m = machine("gfx942", MASK, v0=LANE % 3 * 4, **rows(1, data))
    m.batch.lds[:12] = np.ascontiguousarray(start).view(np.uint8).reshape(-1)
    m.run(f"ds_pk_add_rtn_{kind} v2, v0, v1")
    for lane in np.flatnonzero(on(MASK)):
        word = start[lane % 3]
        assert m.v[2, 0, lane].tobytes() == word.tobytes(), lane
        start[lane % 3] = (word.astype(np.float64) + data[lane].astype(np.float64)).astype(dtype)
    assert m.batch.lds[:12].tobytes() == start.tobytes()


@BOTH
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(("st64", "first", "second"), [("", 2, 5), ("st64", 1, 0)])
def test_exchanges_at_two_addresses(arch, size, st64, first, second):
    """Both old values come back, and the new ones lie at each address plus its offset in elements."""
    n, unit, mask = size // 4, size * (64 if st64 else 1), 0xA5A
    apart = size if st64 else 8 * size  # no two lanes meet, at either offset
    address = np.resize((RNG.permutation(12) * apart).astype(np.uint32), 64)
    new = {f"v{4 + k}": words() for k in range(2 * n)}
    m = machine(arch, mask, v0=address, **new)
    memory = lds(m)
    m.run(
        f"ds_wrxchg2{st64}_rtn_b{8 * size} v[12:{11 + 2 * n}], v0, {pair_of(4, size)}, {pair_of(4 + n, size)} "
        f"offset0:{first} offset1:{second}"
    )
    for lane in np.flatnonzero(on(mask)):
        for k, place in enumerate((first, second)):
            at = int(address[lane]) + place * unit
            got = sum(int(m.v[12 + k * n + j, 0, lane]) << 32 * j for j in range(n))
            assert got == load(memory, at, size), (lane, k)
            value = sum(int(new[f"v{4 + k * n + j}"][lane]) << 32 * j for j in range(n))
            store(memory, at, value, size)
    assert lds(m) == memory
