"""What the template of the streamed loop sees: `k`, with every number already computed (templates/gemm/streamed.hip.j2)."""

from __future__ import annotations

from dataclasses import dataclass

from petitgen.render.context import ACCUMULATORS, C_TYPES, MFMA, OPERANDS, Parameter, is_halved, purpose, tile_of
from petitgen.render.epilogue import NORMAL_TAIL, options
from petitgen.render.tables import fnuz_table
from petitgen.spec.model import Arch, GemmInstance, Tile
from runtime.formats import BRICK_K, BRICK_N, BYTES, FORMATS, MX_BINADES, MX_LARGEST

WIDTH = 32  # rows and columns of the matrix instruction

# bytes of a column's scales in one brick -> type, load
_SCALE_LOADS = {8: ("u32x2", "load_b64"), 4: ("u32", "load_b32"), 0: ("", "")}

# Where block scales are multiplied: with the weights, where the type holds the product, or with the sums of a block.
# Weights and code order, which tells the type and whether the matrix unit flushes subnormal numbers of it.
_SCALES_ON = {("mxfp4", "fp16"): "sums", ("mxfp4", "window"): "sums", ("amdfp4", "window"): "sums",
              ("mxfp4", "fnuz"): "sums"}  # fmt: skip
# Registers that the loads of a stage go to, of column #, by whether there are block scales and whether K is halved.
_PINNED = {
    (True, False): ("codes[#][0]", "codes[#][1]", "scales[#]"),
    (False, False): ("codes[#][0]", "codes[#][1]"),
    (True, True): ("codes[#][0]", "codes[#][1]", "scales[#]"),
    (False, True): ("codes[#][0][0]", "codes[#][0][1]", "codes[#][1][0]", "codes[#][1][1]"),
}

# VALU instructions: (where, activations, code order) -> to scale 8 weights; to watch two activations; for the addresses of a sub-step.
# They only tell compilers how to mix.
_SCALING = {
    ("fold", "bf16", "bf16"): 25,
    ("fold", "bf16", "fp16"): 20,
    ("fold", "bf16", "table"): 24,
    ("fold", "fp16", "fp16"): 12,
    ("fold", "fp16", "window"): 17,
    ("fold", "bf16", BYTES): 24,
    ("fold", "fp16", BYTES): 16,
    ("fold", "fp16", "fnuz"): 15,
    ("direct", "fp8", BYTES): 0,
    ("sums", "fp8", "fnuz"): 14,
    ("sums", "fp16", "fp16"): 8,
    ("sums", "fp16", "window"): 12,
}
_WIDENING = 8  # of 8 activations
_WATCHING = 7
_ADDRESSES = 4


# Powers of two of codes as they are unpacked, by code order: in bf16 or fp16 position, or looked up.
_UNPACKED = {"bf16": -126, "fp16": -14, "table": 0, "window": -14, "fnuz": 0, BYTES: -7}


@dataclass(frozen=True, slots=True)
class Exponents:
    """Powers of two in which weights are made (templates/lib/nvfp4.hip.j2, mxfp4.hip.j2, amdfp4.hip.j2).

    unpacked   a code as it is unpacked is code * 2^unpacked; code: what it is then brought to
    converted  a block scale as it is converted is scale * 2^converted; scale: what it is then brought to
    """

    unpacked: int
    code: int
    converted: int
    scale: int


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a step that compilers may mix: 32 rows of A by 32 of K (templates/gemm/streamed_sums.hip.j2).

    chunk, row  which; next_chunk, next_row: which is read from LDS meanwhile, into register set `next`
    watch, store, load_a  what happens to the A of the next step
    turn        the weights of the next step are needed from here on
    last        of the step: behind the barrier
    convert     scales of the next chunk
    """

    chunk: int
    row: int
    next: int
    next_chunk: int
    next_row: int
    watch: bool
    store: bool
    load_a: bool
    turn: bool
    last: bool
    convert: bool


@dataclass(frozen=True, slots=True)
class StreamedContext:
    """See the head of templates/gemm/streamed.hip.j2 for what the numbers mean there."""

    name: str
    purpose: str
    then: str  # what becomes of weights in registers
    arch: str
    weights: str
    activations: str
    weights_macros: str
    activations_bf16: bool
    out_bf16: bool
    block_scales: bool
    row_scales: bool
    halved: bool  # K counts pairs of activations
    widens: bool  # FP8 activations become fp16 on their way to LDS
    a_item: int  # bytes in memory of an activation, or of a pair
    depth: str  # K, and the pitch of A
    pitch: str
    decodes: bool  # 8-bit codes become numbers of the type of A
    looks_up: bool  # 4-bit codes become FP8
    table: tuple[str, ...]  # E2M1's magnitudes, for that
    streams: str  # what load_weights takes
    pinned: str  # registers of a column of a stage
    weight_loads: int  # of a stage and column
    first_stages: int  # that are asked for before the loop
    brick_bytes: int
    half_bytes: int  # from the codes of one half of the lanes to those of the other
    unit: int
    left: int  # the power of two that the sums are short of
    order: str
    rescue_subnormals: bool  # subnormal activations take a second pass
    tile: Tile
    threads: int
    rows: int
    columns: int
    product: str  # the template of the step
    regions: tuple[Region, ...]
    brick_k: int
    brick_scales: int
    column_scales: int
    mfma_scales: int
    scale_bytes_type: str
    scale_load: str
    valu_between: int
    valu_first: int
    valu_storing: int
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
    epilogue: tuple[tuple[str, int], ...]  # options by name and bit; none: results are stored as they are
    grouped: bool  # rows are sorted by expert
    targets_place: int  # in LDS, beside what the epilogue uses: where the rows of the tile go, 8 bytes each
    tail: tuple[float, ...]  # of the normal distribution
    scaled_weights: bool
    normalize: bool  # codes are brought up: a product would be subnormal where that is flushed, or out of range
    code_exponent: int
    scale_exponent: int
    converted_exponent: int
    scale_step: str
    code_step: str
    scale_groups: int  # of 64 of K
    chunk_blocks: int  # scale blocks of 32 of K
    factor_first: str
    factor_last: str


def streamed_context(instance: GemmInstance) -> StreamedContext:
    """Every number the streamed loop places, for one instance."""
    t, arch, fmt = tile_of(instance), instance.arch, FORMATS[instance.weights.name]
    activations = t.widen or instance.activations.name  # as they are multiplied
    flushes = arch.mfma_flushes_denormals and activations == "fp16"  # bf16: only what is below 1.2e-38
    rows, columns = t.m // t.waves_m // WIDTH, t.n // t.waves_n // WIDTH
    scales, halved = fmt.scales_per_brick, is_halved(instance)
    scale_type, scale_load = _SCALE_LOADS[scales]
    way = _SCALES_ON.get((instance.weights.name, instance.order), "direct" if halved else "fold")
    pinned = _PINNED[fmt.block > 0, halved]
    exponents = _EXPONENTS[instance.weights.name](way, instance.order, arch, flushes)
    left = -exponents.scale - exponents.code  # the power of two that the sums are short of
    a_registers = t.m * t.k * 2 // 4 // instance.block
    vector = columns * _SCALING[way, activations, instance.order]
    watching = _WATCHING * a_registers if flushes else 0
    widening = _WIDENING * a_registers // 4 if t.widen else 0
    targets = t.waves * WIDTH * WIDTH * 4  # behind what each wave exchanges in the epilogue
    return StreamedContext(
        name=instance.name,
        purpose=purpose(instance),
        then="and from there to the matrix unit." if way == "direct" else "where the one wave that needs them dequantizes them.",
        arch=arch.name,
        weights=instance.weights.name,
        activations=activations,
        weights_macros=instance.weights.macros,
        activations_bf16=activations == "bf16",
        out_bf16=instance.out.name == "bf16",
        block_scales=fmt.block > 0,
        row_scales=any(argument.name == "r" for argument in instance.abi),
        halved=halved,
        widens=bool(t.widen),
        a_item=1 if t.widen else 2,
        depth="k / 2" if halved else "k",
        pitch="lda / 2" if halved else "lda",
        decodes=not fmt.block and not halved,
        looks_up=halved and instance.order == "fnuz",
        table=fnuz_table(0),
        streams="of_codes, of_scales, codes, scales" if fmt.block else "of_codes, codes",
        pinned=", ".join(f'"+v"(x.{register})' for register in pinned),
        weight_loads=len(pinned),
        first_stages=t.stages - (way == "direct"),
        brick_bytes=fmt.brick_bytes,
        half_bytes=512 if fmt.block or halved else 256,
        unit=instance.tile.unit // (2 if halved else 1),
        left=left,
        order=instance.order,
        rescue_subnormals=flushes,
        tile=t,
        threads=instance.block,
        rows=rows,
        columns=columns,
        product=f"gemm/streamed_{way}.hip.j2",
        regions=_regions(rows, flushes) if way == "sums" else (),
        brick_k=BRICK_K // (2 if halved else 1),
        brick_scales=BRICK_N * scales,
        column_scales=scales,
        mfma_scales=WIDTH * scales,
        scale_bytes_type=scale_type,
        scale_load=scale_load,
        valu_between=_valu_between(vector, rows, columns),
        valu_first=_valu_between(vector + watching, rows, columns),
        valu_storing=_valu_between(vector + widening, rows, columns),
        accumulators=rows * columns * WIDTH * WIDTH // arch.wave_size,
        weight_registers=columns * (4 * (4 if way == "direct" else 2 if halved or not fmt.block else 1) + scales // 4),
        a_registers=a_registers * t.a_ahead // (2 if t.widen else 1),
        operand_registers=8 * (rows + columns),
        a_bytes=t.m * t.k * 2,
        lds_bytes=max(2 * t.m * t.k * 2, targets + 8 * t.m if instance.grouped else 0),
        mfma_builtin=MFMA[activations, WIDTH],
        operand_type=OPERANDS[activations],
        accumulator_type=ACCUMULATORS[WIDTH],
        parameters=tuple(Parameter(C_TYPES[a.kind], a.name) for a in instance.abi),
        epilogue=options(instance),
        grouped=instance.grouped,
        targets_place=targets,
        tail=NORMAL_TAIL,
        scaled_weights=way == "fold",
        normalize=exponents.code != exponents.unpacked,
        code_exponent=exponents.code,
        scale_exponent=exponents.scale,
        converted_exponent=exponents.converted,
        scale_step=_power(exponents.scale - exponents.converted),
        code_step=_power(exponents.code - exponents.unpacked),
        scale_groups=scales // 2,
        chunk_blocks=scales // (2 if halved else 4),
        factor_first=_power(min(left, 0)),
        factor_last=_power(max(left, 0)),
    )


# Scales times codes stay inside what the type holds exactly.


def _nvfp4_exponents(way: str, order: str, arch: Arch, flushes: bool) -> Exponents:
    whole = flushes or order == "fnuz"  # codes of their own size: scales are, too
    converted, scale = (-1, 119) if order == "bf16" else (-8, 0 if whole else 7)  # fp16: 448 * 2^7 is the largest
    return Exponents(_UNPACKED[order], _code(order, flushes), converted, scale)


def _mxfp4_exponents(way: str, order: str, arch: Arch, flushes: bool) -> Exponents:
    """bf16: from 0.5 * 2^(1 - MX_BINADES) on weights are 2^-132, where they are exact, or 2^-126, where none is flushed;
    runtime.formats.MX_BINADES is chosen so."""
    code, converted = _code(order, flushes), MX_LARGEST - 127
    smallest = -126 if arch.mfma_flushes_denormals else -132
    return Exponents(_UNPACKED[order], code, converted, smallest + MX_BINADES - code if way == "fold" else converted)


def _amdfp4_exponents(way: str, order: str, arch: Arch, flushes: bool) -> Exponents:
    """fp16: products are multiples of 2^-18 up to 6 * 114688, and 2^-4 times these fp16 has, subnormal ones among them.
    bf16: as f32 the largest scale is 114688 * 2^110."""
    if order == "fp16":
        return Exponents(_UNPACKED[order], -3, -1, -1)
    return Exponents(_UNPACKED[order], _code(order, flushes), -112, 110 if order == "bf16" else 0)


def _fp8_exponents(way: str, order: str, arch: Arch, flushes: bool) -> Exponents:
    """Codes that are decoded are 2^-7 times themselves (templates/lib/fp8.hip.j2)."""
    unpacked = 0 if way == "direct" else _UNPACKED[order]
    return Exponents(unpacked, 0 if flushes else unpacked, 0, 0)


_EXPONENTS = {"fp8": _fp8_exponents, "nvfp4": _nvfp4_exponents, "mxfp4": _mxfp4_exponents, "amdfp4": _amdfp4_exponents}


def _code(order: str, flushes: bool) -> int:
    return 0 if flushes else _UNPACKED[order]


def _regions(rows: int, watch: bool) -> tuple[Region, ...]:
    places = [(chunk, row) for chunk in range(2) for row in range(rows)]
    regions = []
    for index, (chunk, row) in enumerate(places):
        next_chunk, next_row = places[(index + 1) % len(places)]
        region = Region(
            chunk,
            row,
            next=1 - index % 2,
            next_chunk=next_chunk,
            next_row=next_row,
            watch=watch and index == 0,
            store=index == 1,
            load_a=index == 2,
            turn=index == rows,
            last=index == len(places) - 1,
            convert=row == rows - 1,
        )
        regions.append(region)
    return tuple(regions)


def _valu_between(vector: int, rows: int, columns: int) -> int:
    """VALU instructions behind each matrix instruction of a sub-step that has `vector` of them and a few for addresses."""
    return -(-(vector + _ADDRESSES) // (2 * rows * columns))


def _power(exponent: int) -> str:
    return f"{float.hex(2.0**exponent)}f"
