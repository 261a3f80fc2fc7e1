"""MFMA and SMFMAC: whole register blocks to petitgen.emulator.mfma. They ignore EXEC. source: CDNA3 ISA
(MI300) 7."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from petitgen.emulator.execute import compile_vector
from petitgen.emulator.operands import is_vector, row_of
from petitgen.emulator.state import LANES, Group
from petitgen.isa.model import Instruction, Kind, Operand

Step = Callable[[Group], None]


def compile_mai(ins: Instruction) -> Step:
    """The step of a matrix instruction, or of a move to or from AGPRs, which is an ordinary vector
    operation."""
    if not ins.mnemonic.startswith(("v_mfma", "v_smfmac")):
        return compile_vector(ins)
    from petitgen.emulator.mfma import mfma, smfmac  # numba is imported only by kernels that need it

    target, name, arch = row_of(ins.dst[0]), ins.mnemonic, ins.arch
    cbsz, abid, blgp = (ins.mods.get(field, 0) for field in ("cbsz", "abid", "blgp"))
    if name.startswith("v_smfmac"):
        read_index = _reader(ins.src[2])
        old = _reader(ins.src[3])
        read_a, read_b = _reader(ins.src[0]), _reader(ins.src[1])

        def sparse(s: Group) -> None:
            result = smfmac(name, arch, read_a(s), read_b(s), read_index(s)[0], old(s), cbsz=cbsz, abid=abid)
            s.set_block(target, result)

        return sparse
    read_a, read_b, read_c = (_reader(o) for o in ins.src)

    def step(s: Group) -> None:
        result = mfma(name, arch, read_a(s), read_b(s), read_c(s), cbsz=cbsz, abid=abid, blgp=blgp)
        s.set_block(target, result)

    return step


def _reader(operand: Operand) -> Callable[[Group], np.ndarray]:
    first, count = row_of(operand), operand.dwords
    if is_vector(operand):
        return lambda s: s.block(first, count)
    if operand.kind is Kind.SGPR:
        return lambda s: np.broadcast_to(s.sgpr[:, first : first + count].T[:, :, None], (count, s.n, LANES))
    period = 2 if "64" in operand.type else 1  # dwords of the constant
    words = np.array([operand.value >> 32 * (k % period) & 0xFFFFFFFF for k in range(count)], np.uint32)
    return lambda s: np.broadcast_to(words.reshape(-1, 1, 1), (count, s.n, LANES))
