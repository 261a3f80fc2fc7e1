"""Writes mfma_vectors.npz: operands and results of every matrix instruction that mmasim models.

    python -m tests.emulator.make_mfma_vectors

Needs mmasim and torch. The tests without them read the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mmasim.amd import MFMA
from mmasim.amd.isa_mfma import arch_mfma_suffix

from . import mfma_layouts as layouts

MODELS = {"gfx90a": "CDNA2", "gfx942": "CDNA3"}
TORCH = {
    "f64": torch.float64, "f32": torch.float32, "xf32": torch.float32, "f16": torch.float16,
    "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fnuz, "bf8": torch.float8_e5m2fnuz,
}  # fmt: skip
SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


def tensor(codes: np.ndarray, type_: str) -> torch.Tensor:
    """Codes as a tensor of the type they encode."""
    signed = np.ascontiguousarray(codes).view(SIGNED[layouts.BITS[type_]])
    return torch.from_numpy(signed).view(TORCH[type_])


def oracle(arch: str, mnemonic: str, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """D's codes [m, n] from codes of A [m, k], B [k, n] and C [m, n], by mmasim."""
    name = layouts.instruction(mnemonic)
    model = MFMA(MODELS[arch], mnemonic.removeprefix("v_mfma_"))
    d = model(tensor(a, name.a), tensor(b, name.b), tensor(c, name.c))
    bits = layouts.BITS[name.c]
    return d.view(torch.int64 if bits == 64 else torch.int32).numpy().view(layouts.UNSIGNED[bits])


def cases() -> list[tuple[str, str]]:
    """(arch, mnemonic) of every instruction mmasim models."""
    return [
        (arch, f"v_mfma_{suffix}") for arch, model in MODELS.items() for suffix in arch_mfma_suffix[model]
    ]


def main() -> None:
    """Blocks of each instruction, every kind of operands against every other; more of the usual shapes."""
    arrays = {}
    for arch, mnemonic in cases():
        name = layouts.instruction(mnemonic)
        generator = np.random.default_rng(len(arrays))
        for number in range(6 if (name.m, name.blocks) == (16, 1) else 1):
            a = layouts.blend(name.a, (name.m, name.k), generator)
            b = layouts.blend(name.b, (name.n, name.k), generator).T
            c = layouts.blend(name.c, (name.n, name.m), generator).T
            d = oracle(arch, mnemonic, a, b, c)
            for part, values in (("a", a), ("b", b), ("c", c), ("d", d)):
                arrays[f"{arch}/{mnemonic}/{number}/{part}"] = values
    np.savez_compressed(Path(__file__).with_name("mfma_vectors.npz"), **arrays)


if __name__ == "__main__":
    main()
