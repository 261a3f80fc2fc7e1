"""Matrix instructions (MFMA, SMFMAC), bit for bit where mmasim models them.

source: CDNA3 ISA 7.1, CDNA2 ISA 7.1, arXiv 2511.10909. See mfma_table for layouts, mfma_kernels for the
arithmetic.

Not modelled by mmasim, so by this module alone: i8 (exact), and the order of summation of SMFMAC, which is
taken to be that of the dense instruction over the stored half of K.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from petitgen.emulator.mfma_table import SHAPES, Shape, layout, shape

Words = NDArray[np.uint32]

# bits, shift to the code's lowest bit, exponent bits, mantissa bits, bias, fnuz. xf32 drops the low 13 bits
# of an f32.
_FORMATS = {
    "f16": (16, 0, 5, 10, 15, 0),
    "bf16": (16, 0, 8, 7, 127, 0),
    "xf32": (32, 13, 8, 10, 127, 0),
    "fp8": (8, 0, 4, 3, 8, 1),
    "bf8": (8, 0, 5, 2, 16, 1),
}
_CHUNK = {"f16": 8, "bf16": 8, "xf32": 4, "fp8": 16, "bf8": 16}
_NO_INDEX = np.zeros((1, 64), np.uint32)


@cache
def _places(mnemonic: str, arch: str, cbsz: int, abid: int, blgp: int) -> tuple[Any, ...]:
    where = layout(mnemonic, arch, cbsz, abid, blgp)
    return where.a_lane, where.a_item, where.b_lane, where.b_item, where.c_lane, where.c_item


def mfma(
    mnemonic: str,
    arch: str,
    a: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    cbsz: int = 0,
    abid: int = 0,
    blgp: int = 0,
    index: ArrayLike | None = None,
) -> Words:
    """D = A * B + C of one matrix instruction in every wave.

    a, b, c     uint32 (registers, waves, 64); c may be anything that broadcasts to its shape (an inline
                constant)
    cbsz, abid  broadcast of blocks of A; SMFMAC: which set of indices (abid, while cbsz is 0)
    blgp        lane permutation of B; f64: bits 0, 1, 2 negate A, B, C
    index       SMFMAC: uint32 (waves, 64), the 2-bit positions of the stored elements of A

    Returns d, uint32 (registers, waves, 64). EmulationError if the arch has no such instruction.
    """
    s = shape(mnemonic, arch)
    a, b = (np.ascontiguousarray(x, np.uint32) for x in (a, b))
    waves = a.shape[1]
    c = np.ascontiguousarray(np.broadcast_to(np.asarray(c, np.uint32), (s.c_registers, waves, 64)))
    d = np.empty_like(c)
    if s.c_type == "f64":
        _run_f64(s, arch, a, b, c, d, blgp)
        return d
    if s.sparse:
        fields = _index_set(s, index, cbsz, abid)
        places = _places(mnemonic, arch, 0, 0, 0)
    else:
        fields, places = _NO_INDEX, _places(mnemonic, arch, cbsz, abid, blgp)
    _run(s, arch, a, b, c, d, places, fields)
    return d


def smfmac(
    mnemonic: str,
    arch: str,
    a: ArrayLike,
    b: ArrayLike,
    index: ArrayLike,
    c: ArrayLike,
    cbsz: int = 0,
    abid: int = 0,
) -> Words:
    """mfma of a sparse instruction with its operands in the instruction's order; index is (waves, 64) or (1,
    waves, 64).
    """
    index = np.asarray(index, np.uint32)
    return mfma(mnemonic, arch, a, b, c, cbsz, abid, index=index[0] if index.ndim == 3 else index)


def _run(
    s: Shape, arch: str, a: Words, b: Words, c: Words, d: Words, places: tuple[Any, ...], fields: Words
) -> None:
    from petitgen.emulator import mfma_fused  # numba: not before it is needed
    from petitgen.emulator import mfma_kernels as kernels

    index_bits = 2 if s.sparse else 0
    if s.a_type == "i8":
        kernels.sums_i8(a, b, c, d, places, fields, index_bits)
    elif s.a_type == "f32":
        kernels.chain_f32(a, b, c, d, places)
    elif arch == "gfx90a":
        together = 4 if s.a_type == "f16" or s.mnemonic.endswith("_1k") else 2
        kernels.flushed_sums(a, b, c, d, places, _FORMATS[s.a_type][2], together)
    else:
        eight = s.a_type in ("fp8", "bf8")
        mfma_fused.fused_dot(
            a, b, c, d, places, _FORMATS[s.a_type], _FORMATS[s.b_type], min(_CHUNK[s.a_type], s.stored_k),
            2 if eight else 1, not eight, fields, index_bits,
        )  # fmt: skip


def _run_f64(s: Shape, arch: str, a: Words, b: Words, c: Words, d: Words, negate: int) -> None:
    from petitgen.emulator import mfma_kernels as kernels

    factors = (-1.0 if negate >> bit & 1 else 1.0 for bit in range(3))
    kernels.chain_f64(a, b, c, d, _places(s.mnemonic, arch, 0, 0, 0), *factors)


def _index_set(s: Shape, index: ArrayLike | None, cbsz: int, abid: int) -> Words:
    """The chosen set of 2-bit fields, one a stored element of the lane, moved to bit 0. source: CDNA3 ISA,
    SMFMAC: 16-bit types have four sets of four fields in the register, 8-bit types two sets of eight.
    """
    if index is None:
        raise ValueError(f"{s.mnemonic} needs an index register")
    width, sets = (8, 4) if s.a_type in ("f16", "bf16") else (16, 2)
    chosen = abid % sets if cbsz == 0 else 0
    return np.ascontiguousarray(np.asarray(index, np.uint32) >> np.uint32(width * chosen))


MNEMONICS = {arch: tuple(shapes) for arch, shapes in SHAPES.items()}
