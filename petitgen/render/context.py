"""What the contexts of both loops share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from petitgen.spec.model import GemmInstance, Tile

C_TYPES = {"buffer": "u32x4", "u32": "u32", "f32": "float"}

# (activations, MFMA size) -> builtin; fp8: gfx942 only
MFMA = {
    ("bf16", 16): "__builtin_amdgcn_mfma_f32_16x16x16bf16_1k",
    ("bf16", 32): "__builtin_amdgcn_mfma_f32_32x32x8bf16_1k",
    ("fp16", 16): "__builtin_amdgcn_mfma_f32_16x16x16f16",
    ("fp16", 32): "__builtin_amdgcn_mfma_f32_32x32x8f16",
    ("fp8", 16): "__builtin_amdgcn_mfma_f32_16x16x32_fp8_fp8",
    ("fp8", 32): "__builtin_amdgcn_mfma_f32_32x32x16_fp8_fp8",
}
CONVERTS_FP8 = frozenset({"gfx942"})  # has instructions from and to FP8
OPERANDS = {"bf16": "i16x4", "fp16": "f16x4", "fp8": "long"}  # 8 bytes along K, as the builtins want them
ACCUMULATORS = {16: "f32x4", 32: "f32x16"}


@dataclass(frozen=True, slots=True)
class Parameter:
    type: str
    name: str


def is_halved(instance: GemmInstance) -> bool:
    """Do templates count K in pairs of activations? These have a byte each then, and a pair the size of a bf16."""
    return instance.activations.bytes == 1 and not instance.tile.widen


def tile_of(instance: GemmInstance) -> Tile:
    """The tile as templates count K."""
    return replace(instance.tile, k=instance.tile.k // 2) if is_halved(instance) else instance.tile


def purpose(instance: GemmInstance) -> str:
    """What a kernel computes, in a line."""
    a, out = instance.activations.name, instance.out.name
    types, rows = (f"{a} A and C", "") if a == out else (f"{a} A and {out} C", " * row[M]")
    if instance.grouped:
        return (f"C[r,N] = (A[r,K] x dequant(W[expert of r])[N,K]^T) * outer[N] for sorted rows r, {instance.weights.name}"
                f" weights, {types}, f32 sums.")  # fmt: skip
    return f"C[M,N] = (A[M,K] x dequant(W)[N,K]^T) * outer[N]{rows}, {instance.weights.name} weights, {types}, f32 sums."
