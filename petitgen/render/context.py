"""What a GEMM template sees: `k`, one frozen object with every number already computed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from petitgen.spec.model import KernelInstance, Tile
from runtime.formats import BRICK_K, BRICK_N, FORMATS

C_TYPES = {"buffer": "u32x4", "u32": "u32"}

# (activations, MFMA size) -> builtin, for gfx90a and gfx942 alike
MFMA = {
    ("bf16", 16): "__builtin_amdgcn_mfma_f32_16x16x16bf16_1k",
    ("bf16", 32): "__builtin_amdgcn_mfma_f32_32x32x8bf16_1k",
    ("fp16", 16): "__builtin_amdgcn_mfma_f32_16x16x16f16",
    ("fp16", 32): "__builtin_amdgcn_mfma_f32_32x32x8f16",
}
OPERANDS = {"bf16": "i16x4", "fp16": "f16x4"}  # four values of K, as the builtins want them
ACCUMULATORS = {16: "f32x4", 32: "f32x16"}

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
class Exponents:
    """Powers of two in which dequantization works (templates/lib/nvfp4.hip.j2).

    normalize     dequantized weights must not be subnormal: codes are brought to their own size first
    scale         a converted block scale is scale * 2^scale
    scale_step    from fp16 position to there; code_step: from fp16 position to a code's own size; both C literals
    outer_factor  what the sums are short of, a C literal
    """

    normalize: bool
    scale: int
    scale_step: str
    code_step: str
    outer_factor: str


@dataclass(frozen=True, slots=True)
class GemmContext:
    """See the head of templates/gemm/gemm.hip.j2 for what the numbers mean there."""

    name: str
    arch: str
    weights: str
    activations: str
    weights_macros: str
    activations_bf16: bool
    rescue_subnormals: bool  # subnormal activations take a second pass
    watching: str  # the argument of store_a that goes with it
    tile: Tile
    mfma_32: bool
    split_k: bool
    threads: int
    quads: int
    stage_k: int
    bricks: int
    pairs: int
    brick_k: int
    brick_scales: int
    column_scales: int
    accumulators: int
    weight_registers: int
    weight_places: tuple[str, ...]  # the members of a weight stage
    a_registers: int
    a_bytes: int
    partial_bytes: int
    lds_bytes: int
    mfma_builtin: str
    operand_type: str
    accumulator_type: str
    accumulator_fours: tuple[Four, ...]
    parameters: tuple[Parameter, ...]
    exponents: Exponents


def gemm_context(instance: KernelInstance) -> GemmContext:
    """Every number the GEMM skeleton places, for one instance."""
    t, arch = instance.tile, instance.arch
    activations = instance.activations.name
    flushes = arch.mfma_flushes_denormals and activations == "fp16"  # bf16: only what is below 1.2e-38
    columns, quads = t.n // t.waves_n // t.mfma, t.mfma // 16
    bricks = max(1, t.k // (BRICK_K * t.waves_k))
    accumulators = t.m * t.n // (t.waves_m * t.waves_n * arch.wave_size)
    a_bytes, partial_bytes = t.m * t.k * 2, (t.waves_k - 1) * accumulators * t.waves_m * t.waves_n * arch.wave_size * 4
    scales = FORMATS[instance.weights.name].scales_per_brick
    return GemmContext(
        name=instance.name,
        arch=arch.name,
        weights=instance.weights.name,
        activations=activations,
        weights_macros=instance.weights.macros,
        activations_bf16=activations == "bf16",
        rescue_subnormals=flushes,
        watching=", seen" if flushes else "",
        tile=t,
        mfma_32=t.mfma == 32,
        split_k=t.waves_k > 1,
        threads=instance.block,
        quads=quads,
        stage_k=max(t.k, BRICK_K),
        bricks=bricks,
        pairs=min(t.k, BRICK_K) // 64,
        brick_k=BRICK_K,
        brick_scales=BRICK_N * scales,
        column_scales=scales,
        accumulators=accumulators,
        weight_registers=bricks * columns * (4 * quads + scales // 4),
        weight_places=tuple(_weight_places(bricks, columns, quads)),
        a_registers=a_bytes // 4 // instance.block * t.a_ahead,
        a_bytes=a_bytes,
        partial_bytes=partial_bytes,
        lds_bytes=max(2 * a_bytes, partial_bytes),
        mfma_builtin=MFMA[activations, t.mfma],
        operand_type=OPERANDS[activations],
        accumulator_type=ACCUMULATORS[t.mfma],
        accumulator_fours=tuple(_fours(t.mfma)),
        parameters=tuple(Parameter(C_TYPES[a.kind], a.name) for a in instance.abi),
        exponents=_exponents(flushes),
    )


def _exponents(normalize: bool) -> Exponents:
    scale = 0 if normalize else _LARGEST_SCALE_EXPONENT
    left = scale + (0 if normalize else _CODE_EXPONENT)
    return Exponents(
        normalize,
        scale,
        scale_step=f"{2.0 ** (scale - _SCALE_EXPONENT)}f",
        code_step=f"{2.0**-_CODE_EXPONENT}f",
        outer_factor=f"{2.0**-left}f",
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
