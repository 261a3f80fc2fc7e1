"""What a kernel is before it is code: frozen facts read from configs/. catalog.py reads them, reader.py and checks.py
say what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from runtime.formats import BRICK_K, FORMATS


@dataclass(frozen=True, slots=True)
class Arch:
    """An architecture, from configs/archs.yaml. Sources stand beside each figure there."""

    name: str
    product: str
    wave_size: int
    lds_bytes: int  # per workgroup
    registers: int  # of a lane on one SIMD: VGPRs and AGPRs share one file
    simds: int  # per CU
    max_waves_per_simd: int
    mfma_flushes_denormals: bool


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument. kind: buffer (16-byte buffer resource descriptor), u32, f32.

    access        buffer only: read, write or readwrite
    out_of_range  buffer only: True when the kernel aims past the end on purpose (reads 0, writes dropped)
    alignment     buffer only: bytes the base address must be a multiple of
    max_bytes     buffer only: the largest extent the kernel's offsets can address
    """

    name: str
    kind: str
    access: str = ""
    out_of_range: bool = False
    alignment: int = 1
    max_bytes: int = 2**32 - 1
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """The part of C one workgroup makes, and how its waves share it.

    loop     resident: A of a chunk of K lies in LDS while the weights stream past it (decode)
             streamed: A comes through LDS in steps, between two buffers (prefill)
    m, n     rows and columns of C a workgroup makes
    k        depth of A staged in LDS at a time (elements)
    waves_m, waves_n, waves_k  how the waves divide the tile; waves_k > 1 sums partial results through LDS
    mfma     16 (16x16x16) or 32 (32x32x8)
    stages   weight stages in flight
    a_ahead  streamed: steps of A (k elements) in flight
    occupancy  waves a SIMD that the registers must leave room for
    """

    loop: str
    m: int
    n: int
    k: int
    waves_m: int
    waves_n: int
    waves_k: int
    mfma: int
    stages: int
    occupancy: int
    a_ahead: int = 1
    widen: str = ""  # the type that FP8 activations are multiplied in, where it is not their own

    @property
    def stage_k(self) -> int:
        """K of one weight stage of the workgroup."""
        return BRICK_K * self.waves_k if self.loop == "resident" else max(self.k, BRICK_K)

    @property
    def unit(self) -> int:
        """K is shared between slices in units of it."""
        return self.stage_k

    def figures(self) -> dict[str, int]:
        """Its numbers by name, as the manifest has them."""
        return {**{k: v for k, v in asdict(self).items() if k not in ("loop", "widen")}, "unit": self.unit}

    @property
    def waves(self) -> int:
        return self.waves_m * self.waves_n * self.waves_k

    @property
    def waves_mnk(self) -> tuple[int, int, int]:
        return self.waves_m, self.waves_n, self.waves_k


@dataclass(frozen=True, slots=True)
class WeightMacros:
    """How templates see a weight format: the macro file that dequantizes it."""

    name: str
    macros: str  # path below templates/


@dataclass(frozen=True, slots=True)
class Activations:
    """An activation type. bytes: of an element. unit: half a unit in the last place, relative. order: the code order
    that its kernels read 4-bit weights in, by arch."""

    name: str
    bytes: int
    unit: float
    order: dict[str, str]


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources a built kernel may use; more fails the build."""

    registers: int  # VGPRs + AGPRs
    lds_bytes: int
    scratch_bytes: int = 0
    spills: int = 0


@dataclass(frozen=True, slots=True)
class Constraints:
    """Shapes the kernel takes, in elements.

    k_multiple    K is a multiple of it
    lda_multiple  so is the row pitch of A, and ldc_multiple that of C
    max_pitch     largest row pitch: offsets of the rows of a tile past M then stay below 4 GiB, where they would wrap
    """

    k_multiple: int
    lda_multiple: int
    ldc_multiple: int
    max_pitch: int


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|y - y64| <= unit * |y64| + accumulate * sum|a w|, elementwise. sums: what float32 loses at its lower end is
    granted for sums that are carried times this power of two."""

    unit: float
    accumulate: float
    sums: float


@dataclass(frozen=True, slots=True)
class KernelInstance:
    """One kernel to build: what every family says of its kernels. GemmInstance and ArrayInstance are the kinds there are."""

    name: str  # names.py: the contract, a double underscore, the arch and the implementation
    op: str
    activations: Activations  # the type of the floats that it reads or makes
    arch: Arch
    template: str  # path below templates/
    abi: tuple[Argument, ...]
    limits: Limits

    @property
    def contract(self) -> str:
        """What it computes: the part of the name before the double underscore."""
        return self.name.split("__")[0]

    @property
    def format(self) -> str:
        """The number format that is not its activations': of weights, or of what it makes. "" where there is none."""
        raise NotImplementedError

    @property
    def context(self) -> str:
        """Which of render's contexts its template sees."""
        raise NotImplementedError

    @property
    def block(self) -> int:
        """Work-items a workgroup."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class GemmInstance(KernelInstance):
    """A product of activations and packed weights: a family at one format, activation type, arch and tile."""

    weights: WeightMacros
    out: Activations  # type of the results
    tile: Tile
    constraints: Constraints
    tolerance: Tolerance
    whole_range: bool  # activations of any size are promised to work, and not those up to 2^64 only

    @property
    def format(self) -> str:
        return self.weights.name

    @property
    def context(self) -> str:
        return self.tile.loop

    @property
    def epilogue(self) -> bool:
        """Can it do more to a result than round it: runtime/epilogue.py?"""
        return any(argument.name == "options" for argument in self.abi)

    @property
    def grouped(self) -> bool:
        """Are its rows sorted by expert, each expert with a weight of its own?"""
        return any(argument.name == "experts" for argument in self.abi)

    @property
    def order(self) -> str:
        """The code order it reads weights in."""
        return FORMATS[self.weights.name].only_order or self.activations.order[self.arch.name]

    @property
    def block(self) -> int:
        return self.arch.wave_size * self.tile.waves


@dataclass(frozen=True, slots=True)
class ArrayInstance(KernelInstance):
    """A kernel that goes over arrays once and gives the same bits as its definition: it quantizes, or finds a maximum.

    form     the format it is for, "" for none
    variant  the end of its name: which of the templates that compute the same
    threads  work-items a workgroup
    occupancy  waves a SIMD that the registers must leave room for
    grid     workgroups in x, y and z: a number, or (dimension, how many of it a workgroup takes)
    numbers  what the template is to know, by name
    """

    form: str
    variant: str
    threads: int
    occupancy: int
    grid: tuple[int | tuple[str, int], ...]
    numbers: Mapping[str, int]

    @property
    def format(self) -> str:
        return self.form

    @property
    def context(self) -> str:
        return "array"

    @property
    def block(self) -> int:
        return self.threads
