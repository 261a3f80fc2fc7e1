"""Every vector row of the instruction tables has semantics that take the row's sources and give its
destinations.
"""

from __future__ import annotations

import numpy as np
import pytest

from petitgen.emulator import registry
from petitgen.isa import tables

W = 3
DTYPES = {
    "f32": np.float32, "u32": np.uint32, "b32": np.uint32, "i32": np.int32, "mix": np.uint32,
    "f16": np.float16, "u16": np.uint16, "b16": np.uint16, "i16": np.int16,
    "f64": np.float64, "u64": np.uint64, "b64": np.uint64, "i64": np.int64,
}  # fmt: skip
PACKED = {"pk_f16": np.float16, "pk_i16": np.int16, "pk_u16": np.uint16}
WIDE = {"pk_f32": (2, np.float32), "pk_b32": (2, np.uint32), "b128": (4, np.uint32)}
# Lanes, matrices and no-ops are the business of other modules.
ELSEWHERE = (
    "v_readlane",
    "v_readfirstlane",
    "v_writelane",
    "v_mfma",
    "v_smfmac",
    "v_nop",
    "v_clrexcp",
    "v_swap",
)
UNPUBLISHED = {"v_screen_partition_4se_b32"}  # the ISA documents give no table for it
ROWS = [
    row
    for row in tables.rows()
    if row.format in ("VOP1", "VOP2", "VOPC", "VOP3", "VOP3P", "MAI")
    and not row.mnemonic.startswith(ELSEWHERE)
    and row.mnemonic not in UNPUBLISHED
]


def layout(kind: str) -> tuple[tuple[int, ...], type]:
    """Shape and dtype of an operand of a table type."""
    kind = kind.split(":")[-1]
    if kind in ("mask", "vcc", "exec"):
        return (W, 64), np.bool_
    if kind in PACKED:
        return (W, 64, 2), PACKED[kind]
    if kind in WIDE:
        count, dtype = WIDE[kind]
        return (count, W, 64), dtype
    return (W, 64), DTYPES[kind]


def operand(kind: str, generator: np.random.Generator) -> np.ndarray:
    """Random bits of a table type."""
    shape, dtype = layout(kind)
    if dtype is np.bool_:
        return generator.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(generator.bytes(size), dtype).reshape(shape)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mnemonic)
def test_row_has_semantics_of_its_types(row) -> None:
    generator = np.random.default_rng(7)
    op = registry.lookup(row.mnemonic)
    kinds = [row.dst[0] if kind in ("dst", "literal") else kind for kind in row.src]
    sources = [operand(kind, generator) for kind in kinds]
    keywords = {name: {"mods": {}, "arch": row.archs[0]}[name] for name in op.keywords}
    destinations = row.dst[:1] if row.dst[1:] == ("exec",) else row.dst
    for function in filter(None, (op.function, op.clamped)):
        before = [source.copy() for source in sources]
        with np.errstate(all="ignore"):
            result = function(*sources, **keywords)
        results = result if isinstance(result, tuple) else (result,)
        assert [(r.shape, r.dtype) for r in results] == [
            (s, np.dtype(d)) for s, d in map(layout, destinations)
        ]
        for source, old in zip(sources, before, strict=True):
            np.testing.assert_array_equal(
                source.view(np.uint8), old.view(np.uint8)
            )  # operands are never written


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mnemonic)
def test_scalar_operands_broadcast(row) -> None:
    """A scalar register (W, 1) gives what the same value in every lane gives."""
    generator = np.random.default_rng(8)
    op = registry.lookup(row.mnemonic)
    kinds = [row.dst[0] if kind in ("dst", "literal") else kind for kind in row.src]
    narrow, full = [], []
    for kind in kinds:
        value = operand(kind, generator)
        if layout(kind)[0] == (W, 64) and value.dtype != bool:
            narrow.append(value[:, :1])
            full.append(np.broadcast_to(value[:, :1], (W, 64)).copy())
        else:
            narrow.append(value)
            full.append(value)
    keywords = {name: {"mods": {}, "arch": row.archs[0]}[name] for name in op.keywords}
    with np.errstate(all="ignore"):
        few, many = op.function(*narrow, **keywords), op.function(*full, **keywords)
    few, many = (r if isinstance(r, tuple) else (r,) for r in (few, many))
    for a, b in zip(few, many, strict=True):
        a = np.broadcast_to(a, b.shape)
        nan = np.isnan(b) if b.dtype.kind == "f" else np.zeros(b.shape, bool)
        np.testing.assert_array_equal(a[~nan], b[~nan])
        assert b.dtype.kind != "f" or np.isnan(a[nan]).all()
