"""What a planted fault is: the text of a template that it replaces. Tables of them are in the files beside this one."""

from __future__ import annotations

from dataclasses import dataclass

# Template files, below templates/.
STREAMED, STREAMED_A, STREAMED_W, STREAMED_FOLD, STREAMED_SUMS, STREAMED_C = (
    f"gemm/{name}.hip.j2"
    for name in ("streamed", "streamed_a", "streamed_w", "streamed_fold", "streamed_sums", "streamed_c")
)
RESIDENT, RESIDENT_A, RESIDENT_W, RESIDENT_PRODUCT, RESIDENT_SIEVE, RESIDENT_C = (
    f"gemm/{name}.hip.j2"
    for name in ("resident", "resident_a", "resident_w", "resident_product", "resident_sieve", "resident_c")
)
SLICES, STORE_C, EPILOGUE, LATE, GROUPED = (
    f"gemm/{name}.hip.j2" for name in ("slices", "store_c", "epilogue", "late", "grouped")
)
NVFP4, MXFP4, AMDFP4, SCALED, UNSCALED = (
    f"lib/{name}.hip.j2" for name in ("nvfp4", "mxfp4", "amdfp4", "scaled", "unscaled")
)
STREAMED_DIRECT, RESIDENT_PLAIN, FP8 = "gemm/streamed_direct.hip.j2", "gemm/resident_plain.hip.j2", "lib/fp8.hip.j2"
PLACES, RESCUE, CODES, SCALES, BUFFER, MFMA, OUTPUT, PRELUDE = (
    f"lib/{name}.hip.j2" for name in ("places", "rescue", "codes", "scales", "buffer", "mfma", "output", "prelude")
)
PHILOX = "lib/philox.hip.j2"


@dataclass(frozen=True, slots=True, order=True)
class Plant:
    """The kernel that a fault is planted in: the smallest with these properties. n: 0 for any."""

    arch: str
    weights: str
    activations: str
    loop: str
    m: int = 0
    n: int = 0
    op: str = "gemm"

    def __str__(self) -> str:
        return f"{self.op}-{self.arch}-{self.weights}-{self.activations}-{self.loop}-m{self.m}n{self.n}"


PREFILL = Plant("gfx942", "nvfp4", "bf16", "streamed")
HALF = Plant("gfx942", "nvfp4", "fp16", "streamed")
FLUSHING = Plant("gfx90a", "nvfp4", "fp16", "streamed")
MX = Plant("gfx942", "mxfp4", "bf16", "streamed")
SUMS = Plant("gfx942", "mxfp4", "fp16", "streamed")
TABLE = Plant("gfx90a", "nvfp4", "bf16", "streamed")
AMD = Plant("gfx942", "amdfp4", "bf16", "streamed")
AMD_HALF = Plant("gfx942", "amdfp4", "fp16", "streamed")
AMD_SUMS = Plant("gfx90a", "amdfp4", "fp16", "streamed")
# Four rows: every scale group has rows of the matrix instruction of its own; four waves along K.
DECODE = Plant("gfx942", "nvfp4", "bf16", "resident", 4)
DECODE_HALF = Plant("gfx942", "nvfp4", "fp16", "resident", 4)
DECODE_MX = Plant("gfx942", "mxfp4", "bf16", "resident", 4)
DECODE_MX_16 = Plant("gfx942", "mxfp4", "bf16", "resident", 16)
DECODE_AMD = Plant("gfx942", "amdfp4", "bf16", "resident", 4)
DECODE_TABLE = Plant("gfx90a", "nvfp4", "bf16", "resident", 4)
DECODE_TABLE_16 = Plant("gfx90a", "nvfp4", "bf16", "resident", 16)
SIFTING = Plant("gfx90a", "nvfp4", "fp16", "resident")
SIFTING_MX = Plant("gfx90a", "mxfp4", "fp16", "resident")
# Several turns of the loop in a chunk of A.
DECODE_TURNS = Plant("gfx942", "nvfp4", "bf16", "resident", 4, 128)
DECODE_8 = Plant("gfx942", "nvfp4", "bf16", "resident", 8)
DECODE_16 = Plant("gfx942", "nvfp4", "bf16", "resident", 16)
# FP8 by FP8, FP8 weights alone, and FP4 weights by FP8 activations: scale groups in rows of their own, and in row blocks.
PTPC = Plant("gfx942", "fp8", "fp8", "streamed")
PTPC_WIDE = Plant("gfx942", "fp8", "fp8", "streamed", 128)
DECODE_PTPC = Plant("gfx942", "fp8", "fp8", "resident", 16)
DECODE_PTPC_64 = Plant("gfx942", "fp8", "fp8", "resident", 64)
W8 = Plant("gfx90a", "fp8", "bf16", "streamed")
W8_HALF = Plant("gfx90a", "fp8", "fp16", "streamed")
DECODE_W8 = Plant("gfx90a", "fp8", "bf16", "resident")
DECODE_FP4_8 = Plant("gfx942", "nvfp4", "fp8", "resident", 8)
DECODE_FP4_16 = Plant("gfx942", "nvfp4", "fp8", "resident", 16)
MX_PTPC = Plant("gfx942", "mxfp4", "fp8", "streamed")
WIDENED = Plant("gfx942", "nvfp4", "fp8", "streamed")
DECODE_32 = Plant("gfx942", "nvfp4", "bf16", "resident", 32)
# Rows sorted by expert.
EXPERTS = Plant("gfx942", "nvfp4", "bf16", "resident", 16, op="grouped")
EXPERTS_PREFILL = Plant("gfx942", "nvfp4", "fp16", "streamed", 128, op="grouped")


@dataclass(frozen=True, slots=True)
class Named:
    """A kernel that goes over arrays, by its name."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Fault:
    """old: text that is in the template exactly once.

    sliced  only shapes whose K is shared by slices can show it
    finished  only shapes with an epilogue can
    unseen  no result shows it: the sanitizer has to
    """

    name: str
    template: str
    old: str
    new: str
    kernel: Plant | Named = PREFILL
    sliced: bool = False
    finished: bool = False
    unseen: bool = False
