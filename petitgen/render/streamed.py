"""What the template of the streamed loop sees: `k`, with every number already computed (templates/gemm/streamed.hip.j2)."""

from __future__ import annotations

from dataclasses import dataclass

from petitgen.render.context import ACCUMULATORS, C_TYPES, MFMA, OPERANDS, Parameter
from petitgen.spec.model import KernelInstance, Tile
from runtime.formats import BRICK_K, BRICK_N, FORMATS

WIDTH = 32  # rows and columns of the matrix instruction

# bytes of a column's scales in one brick -> type, load
_SCALE_LOADS = {8: ("u32x2", "load_b64"), 4: ("u32", "load_b32")}

# VALU instructions: (activations, code order) -> to scale 8 weights; to watch two activations; for the addresses of a sub-step.
# They only tell compilers how to mix.
_SCALING = {("bf16", "bf16"): 21, ("bf16", "fp16"): 20, ("fp16", "fp16"): 12}
_WATCHING = 7
_ADDRESSES = 4


@dataclass(frozen=True, slots=True)
class Exponents:
    """Powers of two in which weights are scaled (templates/lib/nvfp4.hip.j2).

    normalize  dequantized weights must not be subnormal: codes are brought to their own size first
    code       a code as it is unpacked (and normalized) is code * 2^code
    converted  a block scale as it is converted is scale * 2^converted; scale: what it is then brought to
    """

    normalize: bool
    code: int
    converted: int
    scale: int


@dataclass(frozen=True, slots=True)
class StreamedContext:
    """See the head of templates/gemm/streamed.hip.j2 for what the numbers mean there."""

    name: str
    arch: str
    weights: str
    activations: str
    weights_macros: str
    activations_bf16: bool
    order: str
    rescue_subnormals: bool  # subnormal activations take a second pass
    tile: Tile
    threads: int
    columns: int
    brick_k: int
    brick_scales: int
    column_scales: int
    mfma_scales: int
    scale_bytes_type: str
    scale_load: str
    valu_between: int
    valu_first: int
    accumulators: int
    weight_registers: int
    a_registers: int
    operand_registers: int
    a_bytes: int
    lds_bytes: int
    mfma_builtin: str
    operand_type: str
    accumulator_type: str
    parameters: tuple[Parameter, ...]
    normalize: bool
    scale_exponent: int
    scale_step: str
    code_step: str
    outer_factor: str


def streamed_context(instance: KernelInstance) -> StreamedContext:
    """Every number the streamed loop places, for one instance."""
    t, arch = instance.tile, instance.arch
    activations = instance.activations.name
    flushes = arch.mfma_flushes_denormals and activations == "fp16"  # bf16: only what is below 1.2e-38
    rows, columns = t.m // t.waves_m // WIDTH, t.n // t.waves_n // WIDTH
    scales = FORMATS[instance.weights.name].scales_per_brick
    scale_type, scale_load = _SCALE_LOADS[scales]
    exponents = _exponents(instance.order, flushes)
    a_registers = t.m * t.k * 2 // 4 // instance.block
    vector = columns * _SCALING[activations, instance.order]
    watching = _WATCHING * a_registers if flushes else 0
    return StreamedContext(
        name=instance.name,
        arch=arch.name,
        weights=instance.weights.name,
        activations=activations,
        weights_macros=instance.weights.macros,
        activations_bf16=activations == "bf16",
        order=instance.order,
        rescue_subnormals=flushes,
        tile=t,
        threads=instance.block,
        columns=columns,
        brick_k=BRICK_K,
        brick_scales=BRICK_N * scales,
        column_scales=scales,
        mfma_scales=WIDTH * scales,
        scale_bytes_type=scale_type,
        scale_load=scale_load,
        valu_between=_valu_between(vector, rows, columns),
        valu_first=_valu_between(vector + watching, rows, columns),
        accumulators=rows * columns * WIDTH * WIDTH // arch.wave_size,
        weight_registers=columns * (4 + scales // 4),
        a_registers=a_registers * t.a_ahead,
        operand_registers=8 * (rows + columns),
        a_bytes=t.m * t.k * 2,
        lds_bytes=2 * t.m * t.k * 2,
        mfma_builtin=MFMA[activations, WIDTH],
        operand_type=OPERANDS[activations],
        accumulator_type=ACCUMULATORS[WIDTH],
        parameters=tuple(Parameter(C_TYPES[a.kind], a.name) for a in instance.abi),
        normalize=exponents.normalize,
        scale_exponent=exponents.scale,
        scale_step=_power(exponents.scale - exponents.converted),
        code_step=_power(14),
        outer_factor=_power(-exponents.scale - exponents.code),
    )


def _exponents(order: str, flushes: bool) -> Exponents:
    """bf16 order: codes in bf16 position, scales in f32. fp16 order: both in fp16, of which 448 * 2^7 is the largest."""
    if order == "bf16":
        return Exponents(False, code=-126, converted=-1, scale=119)
    return Exponents(True, 0, -8, 0) if flushes else Exponents(False, -14, -8, 7)


def _valu_between(vector: int, rows: int, columns: int) -> int:
    """VALU instructions behind each matrix instruction of a sub-step that has `vector` of them and a few for addresses."""
    return -(-(vector + _ADDRESSES) // (2 * rows * columns))


def _power(exponent: int) -> str:
    return f"{float.hex(2.0**exponent)}f"
