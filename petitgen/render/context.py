"""What the contexts of both loops share."""

from __future__ import annotations

from dataclasses import dataclass

C_TYPES = {"buffer": "u32x4", "u32": "u32", "f32": "float"}

# (activations, MFMA size) -> builtin, for gfx90a and gfx942 alike
MFMA = {
    ("bf16", 16): "__builtin_amdgcn_mfma_f32_16x16x16bf16_1k",
    ("bf16", 32): "__builtin_amdgcn_mfma_f32_32x32x8bf16_1k",
    ("fp16", 16): "__builtin_amdgcn_mfma_f32_16x16x16f16",
    ("fp16", 32): "__builtin_amdgcn_mfma_f32_32x32x8f16",
}
CONVERTS_FP8 = frozenset({"gfx942"})  # has instructions from and to FP8
OPERANDS = {"bf16": "i16x4", "fp16": "f16x4"}  # four values of K, as the builtins want them
ACCUMULATORS = {16: "f32x4", 32: "f32x16"}


@dataclass(frozen=True, slots=True)
class Parameter:
    type: str
    name: str
