"""What a GEMM template sees: `k`, one frozen object with every number already computed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from petitgen.spec.model import KernelInstance
from runtime.formats import BRICK_K, FORMATS

_C_TYPES = {"buffer": "u32x4", "u32": "u32"}

# (activations, MFMA size) -> builtin, for gfx90a and gfx942 alike
_MFMA = {
    ("bf16", 16): "__builtin_amdgcn_mfma_f32_16x16x16bf16_1k",
    ("bf16", 32): "__builtin_amdgcn_mfma_f32_32x32x8bf16_1k",
    ("fp16", 16): "__builtin_amdgcn_mfma_f32_16x16x16f16",
    ("fp16", 32): "__builtin_amdgcn_mfma_f32_32x32x8f16",
}
_OPERANDS = {"bf16": "i16x4", "fp16": "f16x4"}  # four values of K, as the builtins want them
_ACCUMULATORS = {16: "f32x4", 32: "f32x16"}

# Powers of two in which the dequantization macros work (templates/lib/nvfp4.hip.j2).
_CODE_EXPONENT = -14  # an E2M1 code in fp16 position
_SCALE_EXPONENT = -8  # an E4M3 scale in fp16 position
_LARGEST_SCALE_EXPONENT = 7  # 448 * 2^7 is the largest that fp16 holds


@dataclass(frozen=True, slots=True)
class Parameter:
    type: str
    name: str


@dataclass(frozen=True, slots=True)
class Four:
    """Four accumulator elements that are neighbours along n."""

    index: int
    elements: tuple[int, ...]
    offset: int  # bytes from the wave's first partial sum in LDS
    n: int  # columns from the first of the matrix instruction, for lane part 0


@dataclass(frozen=True, slots=True)
class GemmContext:
    name: str
    arch: str
    weights: str
    activations: str
    weights_macros: str
    activations_bf16: bool
    normalize_codes: bool  # dequantized weights must not be subnormal
    rescue_subnormals: bool  # subnormal activations take a second pass
    watching: str  # the argument of store_a that goes with it
    tile_m: int
    tile_n: int
    tile_k: int
    waves: int
    waves_m: int
    waves_n: int
    waves_k: int
    mfma: int
    mfma_32: bool
    split_k: bool
    quads: int
    stages: int
    stage_k: int
    bricks: int
    pairs: int
    brick_k: int
    brick_scales: int
    column_scales: int
    threads: int
    occupancy: int
    accumulators: int
    weight_registers: int
    weight_places: tuple[str, ...]  # the members of a weight stage
    a_ahead: int
    a_registers: int
    a_bytes: int
    partial_bytes: int
    lds_bytes: int
    mfma_builtin: str
    operand_type: str
    accumulator_type: str
    accumulator_fours: tuple[Four, ...]
    parameters: tuple[Parameter, ...]
    scale_exponent: int
    scale_step: str
    code_step: str
    outer_factor: str


def gemm_context(instance: KernelInstance) -> GemmContext:
    """Every number the GEMM skeleton places, for one instance."""
    t, arch = instance.tile, instance.arch
    bf16 = instance.activations.name == "bf16"
    # bf16 has the exponents of f32: what the matrix unit flushes there is below 1.2e-38.
    normalize = arch.mfma_flushes_denormals and not bf16
    scale_exponent = 0 if normalize else _LARGEST_SCALE_EXPONENT
    product_exponent = scale_exponent + (0 if normalize else _CODE_EXPONENT)
    columns, rows = t.n // t.waves_n // t.mfma, t.m // t.waves_m // t.mfma
    per_tile = t.mfma * t.mfma // arch.wave_size
    bricks = max(1, t.k // (BRICK_K * t.waves_k))
    quads = t.mfma // 16
    accumulators = rows * columns * per_tile
    partial_bytes = (t.waves_k - 1) * t.waves_m * t.waves_n * accumulators * arch.wave_size * 4
    fmt = FORMATS[instance.weights.name]
    a_bytes = t.m * t.k * 2
    return GemmContext(
        name=instance.name,
        arch=arch.name,
        weights=instance.weights.name,
        activations=instance.activations.name,
        weights_macros=instance.weights.macros,
        activations_bf16=bf16,
        normalize_codes=normalize,
        rescue_subnormals=normalize,
        watching=", seen" if normalize else "",
        tile_m=t.m,
        tile_n=t.n,
        tile_k=t.k,
        waves=t.waves,
        waves_m=t.waves_m,
        waves_n=t.waves_n,
        waves_k=t.waves_k,
        mfma=t.mfma,
        mfma_32=t.mfma == 32,
        split_k=t.waves_k > 1,
        quads=quads,
        stages=t.stages,
        stage_k=max(t.k, BRICK_K),
        bricks=bricks,
        pairs=min(t.k, BRICK_K) // 64,
        brick_k=BRICK_K,
        brick_scales=16 * fmt.scales_per_brick,
        column_scales=fmt.scales_per_brick,
        threads=instance.block,
        occupancy=t.occupancy,
        accumulators=accumulators,
        weight_registers=bricks * columns * (4 * quads + fmt.scales_per_brick // 4),
        weight_places=tuple(_weight_places(bricks, columns, quads)),
        a_ahead=t.a_ahead,
        a_registers=t.m * t.k // 8 // instance.block * 4 * t.a_ahead,
        a_bytes=a_bytes,
        partial_bytes=partial_bytes,
        lds_bytes=max(2 * a_bytes, partial_bytes),
        mfma_builtin=_MFMA[instance.activations.name, t.mfma],
        operand_type=_OPERANDS[instance.activations.name],
        accumulator_type=_ACCUMULATORS[t.mfma],
        accumulator_fours=tuple(_fours(t.mfma)),
        parameters=tuple(Parameter(_C_TYPES[a.kind], a.name) for a in instance.abi),
        scale_exponent=scale_exponent,
        scale_step=f"{2.0 ** (scale_exponent - _SCALE_EXPONENT)}f",
        code_step=f"{2.0**-_CODE_EXPONENT}f",
        outer_factor=f"{2.0**-product_exponent}f",
    )


def _weight_places(bricks: int, columns: int, quads: int) -> list[str]:
    places = []
    for b, j in product(range(bricks), range(columns)):
        places += [f"codes[{b}][{j}][{q}]" for q in range(quads)] + [f"scales[{b}][{j}]"]
    return places


def _fours(mfma: int) -> list[Four]:
    """Accumulator elements 4 i to 4 i + 3 are rows 8 i + 4 * (lane / mfma) on (AMD matrix instruction calculator)."""
    count = mfma * mfma // 256
    return [Four(i, tuple(range(4 * i, 4 * i + 4)), i * 1024, 8 * i) for i in range(count)]
