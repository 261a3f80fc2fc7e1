"""Checkpoint weights to the packed form of runtime.formats and back: exact, reversible, vectorised.

Packing moves bits, and counts MXFP4 scales from the largest of their column: unpacking gives back what was packed, but for
the place of the sign of negative NVFP4 scales and for MXFP4 blocks that count as zero (see pack_nvfp4, pack_mxfp4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime import fp8, ue5m3
from runtime.errors import OperandError, PackError
from runtime.formats import BRICK_K, BRICK_N, FORMATS, MX_BINADES, MX_LARGEST, WeightFormat
from runtime.orders import gather_bits, scatter_bits

if TYPE_CHECKING:
    from runtime.library import Library
    from runtime.weights import DeviceWeight

_QUADS = 4
_DWORDS = BRICK_K // 32  # dwords a lane holds of one brick
_E4M3_SIGN = 0x80
_E8M0_NAN = 0xFF  # OCP Microscaling Formats v1.0
_ROWS_AT_ONCE = 1024  # bounds the working memory of packing a large weight; a multiple of BRICK_N


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PackedWeight:
    """A weight in kernel order, in host memory. What a Library keeps of it on a device goes when this object goes.

    codes           uint8 [ceil(K/128), ceil(N/16), 64, 16], in HOST_ORDER; FP8 [ceil(K/128), ceil(N/16), 2, 64, 16]
    scales          uint8 [ceil(K/128), ceil(N/16), 16, 128/block], see pack_nvfp4 and pack_mxfp4; FP8 has none
    outer           float32 [N]: what the kernel multiplies column n of C by. weight_scale_2, or NaN for a column with
                    a NaN block scale (E4M3 0x7F, 0xFF; E8M0 and UE5M3 0xFF) or a NaN code (FP8): the whole column is NaN as
                    the definition asks
    weight_scale_2  float32 scalar or [N]: as given, MXFP4 [N] the largest scale of each column, FP8 [N]
    """

    format: str
    n: int
    k: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    outer: NDArray[np.float32]
    weight_scale_2: NDArray[np.float32]

    def to(self, library: Library, device: int | None = None, activations: Any = "bf16") -> DeviceWeight:
        """A copy in the memory of a device, which a server launches with once and for all: Library.upload."""
        upload = getattr(library, "upload", None)
        if upload is None:
            raise OperandError(f"library is a {type(library).__name__}: what runtime.load returns is needed")
        return upload(self, device, activations)


def pack(format: str, weight: Any, weight_scale: Any, weight_scale_2: Any = None) -> PackedWeight:
    """Pack the checkpoint tensors of a weight in `format`, one of runtime.formats.FORMATS: pack_nvfp4, pack_mxfp4,
    pack_amdfp4, pack_fp8.

    numpy arrays or torch tensors (those on a GPU are copied to the host). PackError for an unknown format, a wrong
    shape or dtype.
    """
    if not isinstance(format, str) or format not in _PACKERS:
        raise PackError(f"no format {format!r}: known are {', '.join(_PACKERS)}")
    return _PACKERS[format](weight, weight_scale, weight_scale_2)


def pack_nvfp4(weight: Any, weight_scale: Any, weight_scale_2: Any) -> PackedWeight:
    """Pack a ModelOpt NVFP4 weight.

    weight          uint8 [N, K/2], low nibble = even k (E2M1 codes)
    weight_scale    E4M3FN [N, K/16]: float8_e4m3fn (ml_dtypes or torch) or its codes as uint8
    weight_scale_2  float32 scalar, or [N] for fused projections whose shards have scales of their own

    Block scales are packed without their signs: those of a negative one go to its codes, and -0 is packed as 0. The
    products are the same, and kernels need not look for a sign.
    numpy arrays or CPU torch tensors. Raises PackError for a wrong shape or dtype.
    Source: ModelOpt `hf_quant_config.json` checkpoints (weight, weight_scale, weight_scale_2).
    """
    fmt = FORMATS["nvfp4"]
    codes, scales = _operands(fmt, weight, weight_scale, "float8_e4m3fn")
    n, k = codes.shape[0], 2 * codes.shape[1]
    outer = _outer_of(weight_scale_2, n, "NVFP4")
    columns = np.broadcast_to(outer, n).copy()
    columns[((scales & 0x7F) == 0x7F).any(axis=1)] = np.nan
    codes, scales = _without_signs(codes, scales)
    return PackedWeight(fmt.name, n, k, _pack_codes(codes), _pack_scales(scales, fmt), columns, outer)


def _without_signs(codes: NDArray[np.uint8], scales: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """NVFP4 codes [N, K/2] and scales [N, K/16] of the same values, with no scale negative."""
    negative = scales >= _E4M3_SIGN
    if not negative.any():
        return codes, scales
    codes = codes.copy()
    codes.view(np.uint64)[negative] ^= np.uint64(0x8888888888888888)  # the signs of the 16 codes of a block
    return codes, scales & np.uint8(0x7F)


def unpack_nvfp4(packed: PackedWeight) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """The checkpoint tensors of the values that pack_nvfp4 was given: weight, weight_scale (codes), weight_scale_2.

    They are those it was given, but for blocks with a negative scale: their scale is positive and their codes have the
    other sign.
    """
    return *_unpack(packed, FORMATS["nvfp4"]), packed.weight_scale_2


def pack_mxfp4(weight: Any, weight_scale: Any, weight_scale_2: None = None) -> PackedWeight:
    """Pack an MXFP4 weight.

    weight          uint8 [N, K/2], low nibble = even k (E2M1 codes)
    weight_scale    E8M0 [N, K/32]: float8_e8m0fnu (ml_dtypes or torch) or its codes as uint8
    weight_scale_2  MXFP4 has none: PackError for anything but None

    A packed scale byte is b - bmax + 190 for the E8M0 code b, with the largest non-NaN code bmax of its column (row of
    `weight`), whose scale 2^(bmax-127) goes to `outer`. So the bytes of any column fit the exponent range of a float32
    and their products with codes that of bfloat16; a block whose scale is 2^-133 of the column's largest or less gets byte 0: it
    counts as zero. NaN (0xFF) stays 0xFF.
    numpy arrays or CPU torch tensors. Raises PackError for a wrong shape or dtype.
    Source: OCP Microscaling Formats v1.0.
    """
    if weight_scale_2 is not None:
        raise PackError("weight_scale_2 is given, but MXFP4 has no scale beside weight_scale: leave it out")
    fmt = FORMATS["mxfp4"]
    codes, exponents = _operands(fmt, weight, weight_scale, "float8_e8m0fnu")
    nan = exponents == _E8M0_NAN
    largest = np.where(nan, np.uint8(0), exponents).max(axis=1)
    below = largest[:, None] - exponents  # wraps for NaN, which is put right below
    scales = np.where(nan, exponents, np.where(below < MX_BINADES, MX_LARGEST - below, 0)).astype(np.uint8)
    # 2^(largest - 127) by its bits: a process may run with subnormals flushed, and the smallest is one.
    outer = np.where(largest, largest.astype(np.uint32) << 23, np.uint32(1 << 22)).astype(np.uint32).view(np.float32)
    columns = np.where(nan.any(axis=1), np.float32(np.nan), outer)
    n, k = codes.shape[0], 2 * codes.shape[1]
    return PackedWeight(fmt.name, n, k, _pack_codes(codes), _pack_scales(scales, fmt), columns, outer)


def unpack_mxfp4(packed: PackedWeight) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The checkpoint tensors that pack_mxfp4 was given: weight, weight_scale (codes).

    A block that counts as zero comes back with the largest scale that does: 2^-133 of its column's largest.
    """
    weight, scales = _unpack(packed, FORMATS["mxfp4"])
    largest = (packed.weight_scale_2.view(np.uint32) >> 23).astype(np.uint8)
    below = np.where(scales == 0, MX_BINADES, MX_LARGEST - scales)
    return weight, np.where(scales == _E8M0_NAN, scales, largest[:, None] - below).astype(np.uint8)


def pack_amdfp4(weight: Any, weight_scale: Any, weight_scale_2: Any) -> PackedWeight:
    """Pack an AMD-FP4 weight.

    weight          uint8 [N, K/2], low nibble = even k (E2M1 codes)
    weight_scale    uint8 [N, K/16]: UE5M3 codes, unsigned, 0xFF is NaN; packed as they are
    weight_scale_2  float32 scalar, or [N] for fused projections whose shards have scales of their own

    numpy arrays or torch tensors. Raises PackError for a wrong shape or dtype.
    Source: docs/formats.md; no other serialized form of AMD-FP4 is known.
    """
    fmt = FORMATS["amdfp4"]
    codes, scales = _operands(fmt, weight, weight_scale)
    n, k = codes.shape[0], 2 * codes.shape[1]
    outer = _outer_of(weight_scale_2, n, "AMD-FP4")
    columns = np.broadcast_to(outer, n).copy()
    columns[(scales == ue5m3.NAN).any(axis=1)] = np.nan
    return PackedWeight(fmt.name, n, k, _pack_codes(codes), _pack_scales(scales, fmt), columns, outer)


def unpack_amdfp4(packed: PackedWeight) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """The checkpoint tensors that pack_amdfp4 was given: weight, weight_scale (codes), weight_scale_2."""
    return *_unpack(packed, FORMATS["amdfp4"]), packed.weight_scale_2


def pack_fp8(weight: Any, weight_scale: Any, weight_scale_2: None = None) -> PackedWeight:
    """Pack an FP8 weight with a scale for each column (PTPC-FP8: per channel).

    weight          E4M3 [N, K]: float8_e4m3fnuz, or its codes as uint8, or float8_e4m3fn, which becomes E4M3FNUZ with twice
                    the scale (ml_dtypes or torch). K is a multiple of 16
    weight_scale    float32 scalar, [N] or [N, 1]: w = code * scale
    weight_scale_2  FP8 has none: PackError for anything but None

    A NaN code makes the outer scale of its column NaN: every element of it is. Raises PackError for a wrong shape or dtype, and
    for a scale that twice is beyond float32.
    Source: vLLM's PTPC-FP8 and compressed-tensors' FP8 checkpoints, strategy channel (weight, weight_scale).
    """
    if weight_scale_2 is not None:
        raise PackError("weight_scale_2 is given, but FP8 has no scale beside weight_scale: leave it out")
    dtype = str(getattr(weight, "dtype", "")).removeprefix("torch.")
    codes = _bytes_of(weight, "weight", *fp8.FACTORS)
    if codes.ndim != 2 or 0 in codes.shape or codes.shape[1] % BRICK_N:
        raise PackError(f"weight has shape {list(codes.shape)}: [N, K] is needed, with K a multiple of {BRICK_N}")
    n, k = codes.shape
    outer = np.broadcast_to(_outer_of(_column(weight_scale), n, "FP8", "weight_scale"), n)
    codes = fp8.to_fnuz(codes, dtype)
    with np.errstate(over="ignore"):
        columns = outer * np.float32(fp8.FACTORS[dtype])
    if (np.isinf(columns) & np.isfinite(outer)).any():
        raise PackError("weight_scale has a value that is beyond float32 when E4M3FN becomes E4M3FNUZ, which doubles it")
    kept = columns.copy()
    columns = np.where((codes == fp8.NAN).any(axis=1), np.float32(np.nan), columns)
    packed = fp8.pack_codes(codes)
    return PackedWeight("fp8", n, k, packed, np.zeros((*packed.shape[:2], BRICK_N, 0), np.uint8), columns, kept)


def unpack_fp8(packed: PackedWeight) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """E4M3FNUZ codes [N, K] and scales [N] of the values that pack_fp8 was given."""
    if packed.format != "fp8":
        raise PackError(f"unpack_fp8 needs a packed fp8 weight, this one is {packed.format}")
    return fp8.unpack_codes(packed.codes, packed.n, packed.k), packed.weight_scale_2


def _column(scale: Any) -> Any:
    """Checkpoints have [N, 1], too."""
    return scale.reshape(-1) if getattr(scale, "ndim", 0) == 2 and scale.shape[1] == 1 else scale


_PACKERS: dict[str, Callable[[Any, Any, Any], PackedWeight]] = {
    "nvfp4": pack_nvfp4,
    "mxfp4": pack_mxfp4,
    "amdfp4": pack_amdfp4,
    "fp8": pack_fp8,
}


def _operands(
    fmt: WeightFormat, weight: Any, weight_scale: Any, *scale_dtypes: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The bytes of weight [N, K/2] and weight_scale [N, K/block], checked."""
    codes = _bytes_of(weight, "weight", "uint8")
    if codes.ndim != 2 or 0 in codes.shape:
        raise PackError(f"weight has shape {list(codes.shape)}: two 4-bit codes a byte, [N, K/2], are needed")
    n, k = codes.shape[0], 2 * codes.shape[1]
    if k % fmt.block:
        raise PackError(f"weight has K = {k}, which is no multiple of {fmt.name}'s block of {fmt.block}")
    scales = _bytes_of(weight_scale, "weight_scale", *scale_dtypes, "uint8")
    if scales.shape != (n, k // fmt.block):
        raise PackError(
            f"weight_scale has shape {list(scales.shape)}, but a weight of shape {list(codes.shape)} "
            f"needs [N, K/{fmt.block}] = [{n}, {k // fmt.block}]"
        )
    return codes, scales


def _unpack(packed: PackedWeight, fmt: WeightFormat) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes [N, K/2] and packed scale bytes [N, K/block], without the padding."""
    if packed.format != fmt.name:
        raise PackError(f"unpack_{fmt.name} needs a packed {fmt.name} weight, this one is {packed.format}")
    weight = _unpack_codes(packed.codes)[: packed.n, : packed.k // 2]
    in_order = packed.scales[..., list(fmt.scale_places)]
    rows = in_order.transpose(1, 2, 0, 3).reshape(-1, in_order.shape[0] * fmt.scales_per_brick)
    return np.ascontiguousarray(weight), np.ascontiguousarray(rows[: packed.n, : packed.k // fmt.block])


def _bytes_of(tensor: Any, name: str, *dtypes: str) -> NDArray[np.uint8]:
    """The bytes of a one-byte-per-element tensor whose dtype is one of `dtypes`."""
    dtype = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
    if dtype not in dtypes:
        raise PackError(f"{name} has dtype {dtype}: {' or '.join(dtypes)} is needed")
    if type(tensor).__module__.startswith("torch"):
        import torch

        return tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return np.ascontiguousarray(tensor).view(np.uint8)


def _outer_of(scale: Any, n: int, format: str, name: str = "weight_scale_2") -> NDArray[np.float32]:
    if hasattr(scale, "detach"):  # a torch tensor, perhaps on a GPU; numpy has no bf16
        scale = scale.detach().cpu().float() if scale.is_floating_point() else scale.detach().cpu()
    if scale is None:
        raise PackError(f"{name} is missing: {format} has a float32 scale{' beside the block scales' if name == 'weight_scale_2' else ''}")
    try:
        given = np.asarray(scale)
    except ValueError as error:
        raise PackError(f"{name} is no array: {error}") from None
    if given.dtype.kind not in "fiu" or (given.dtype.kind == "f" and given.dtype.itemsize not in (2, 4, 8)):
        raise PackError(f"{name} has dtype {given.dtype}: float32 is needed")
    with np.errstate(over="ignore"):
        outer = given.astype(np.float32)
    if (np.isinf(outer) & np.isfinite(given)).any() or ((outer == 0) & (given != 0)).any():
        raise PackError(f"{name} has a value beyond float32")
    if outer.shape == (1,):
        outer = outer.reshape(())
    if outer.shape not in ((), (n,)):
        raise PackError(f"{name} has shape {list(outer.shape)}: a scalar or [N] = [{n}] is needed")
    return outer


def _padded(array: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """`array` with zero rows up to a multiple of BRICK_N and zero columns up to a multiple of `columns`."""
    rows = -array.shape[0] % BRICK_N
    right = -array.shape[1] % columns
    return np.pad(array, ((0, rows), (0, right))) if rows or right else array


def _pack_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [N, K/2] -> uint8 [K/128, N/16, 64, 16], padded with zero codes."""
    tiles_n, tiles_k = -(-codes.shape[0] // BRICK_N), -(-codes.shape[1] // (BRICK_K // 2))
    out = np.empty((tiles_k, tiles_n, _QUADS, BRICK_N, _DWORDS), np.uint32)
    for row in range(0, codes.shape[0], _ROWS_AT_ONCE):
        halves = _padded(codes[row : row + _ROWS_AT_ONCE], BRICK_K // 2).view(np.uint16)
        # [tile n][n][tile k][dword][g][quad] -> g picks the half of the dword
        halves = halves.reshape(-1, BRICK_N, tiles_k, _DWORDS, 2, _QUADS)
        words = scatter_bits(halves[..., 0, :], halves[..., 1, :])
        first = row // BRICK_N
        out[:, first : first + words.shape[0]] = words.transpose(2, 0, 4, 1, 3)
    return out.reshape(tiles_k, tiles_n, _QUADS * BRICK_N, _DWORDS).view(np.uint8)


def _unpack_codes(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [K/128, N/16, 64, 16] -> uint8 [N, K/2] with the padding still on."""
    tiles_k, tiles_n = packed.shape[:2]
    words = np.ascontiguousarray(packed).view(np.uint32).reshape(tiles_k, tiles_n, _QUADS, BRICK_N, _DWORDS)
    out = np.empty((tiles_n, BRICK_N, tiles_k, _DWORDS, 2, _QUADS), np.uint16)
    step = _ROWS_AT_ONCE // BRICK_N
    for tile in range(0, tiles_n, step):
        part = words[:, tile : tile + step].transpose(1, 3, 0, 4, 2)
        natural = gather_bits(part)
        out[tile : tile + step, :, :, :, 0] = natural & 0xFFFF
        out[tile : tile + step, :, :, :, 1] = natural >> 16
    return out.view(np.uint8).reshape(tiles_n * BRICK_N, tiles_k * (BRICK_K // 2))


def _pack_scales(scales: NDArray[np.uint8], fmt: WeightFormat) -> NDArray[np.uint8]:
    """uint8 [N, K/block] -> uint8 [K/128, N/16, 16, 128/block] in scale_places, padded with zero scales."""
    padded = _padded(scales, fmt.scales_per_brick)
    bricks = padded.reshape(padded.shape[0] // BRICK_N, BRICK_N, -1, fmt.scales_per_brick)
    return np.ascontiguousarray(bricks.transpose(2, 0, 1, 3)[..., list(fmt.scale_places)])
