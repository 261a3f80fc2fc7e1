"""Checkpoint weights to the packed form of runtime.formats and back: exact, reversible, vectorised.

Packing only moves bits: every code and scale byte comes back from unpack_nvfp4 as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OperandError, PackError
from runtime.formats import BRICK_K, BRICK_N, CODE_BITS, FORMATS, WeightFormat

if TYPE_CHECKING:
    from runtime.library import Library
    from runtime.weights import DeviceWeight

_QUADS = 4
_DWORDS = BRICK_K // 32  # dwords a lane holds of one brick
_ROWS_AT_ONCE = 1024  # bounds the working memory of packing a large weight; a multiple of BRICK_N


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PackedWeight:
    """A weight in kernel order, in host memory. What a Library keeps of it on a device goes when this object goes.

    codes           uint8 [ceil(K/128), ceil(N/16), 64, 16]
    scales          uint8 [ceil(K/128), ceil(N/16), 16, 128/block]
    outer           float32 [N]: what the kernel multiplies column n of C by. weight_scale_2, or NaN for a column with
                    a NaN block scale (E4M3 0x7F, 0xFF), which makes the whole column NaN as the definition asks
    weight_scale_2  float32 scalar or [N], as given
    """

    format: str
    n: int
    k: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    outer: NDArray[np.float32]
    weight_scale_2: NDArray[np.float32]

    def to(self, library: Library, device: int | None = None) -> DeviceWeight:
        """A copy in the memory of a device, which a server launches with once and for all: Library.upload."""
        upload = getattr(library, "upload", None)
        if upload is None:
            raise OperandError(f"library is a {type(library).__name__}: what runtime.load returns is needed")
        return upload(self, device)


def pack(format: str, weight: Any, weight_scale: Any, weight_scale_2: Any) -> PackedWeight:
    """Pack the checkpoint tensors of a weight in `format`, one of runtime.formats.FORMATS: see pack_nvfp4.

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

    numpy arrays or CPU torch tensors. Raises PackError for a wrong shape or dtype.
    Source: ModelOpt `hf_quant_config.json` checkpoints (weight, weight_scale, weight_scale_2).
    """
    fmt = FORMATS["nvfp4"]
    codes = _bytes_of(weight, "weight", "uint8")
    n, k = _check_codes(codes, fmt)
    scales = _bytes_of(weight_scale, "weight_scale", "float8_e4m3fn", "uint8")
    if scales.shape != (n, k // fmt.block):
        raise PackError(
            f"weight_scale has shape {list(scales.shape)}, but a weight of shape {list(codes.shape)} "
            f"needs [N, K/{fmt.block}] = [{n}, {k // fmt.block}]"
        )
    outer = _outer_of(weight_scale_2, n)
    columns = np.broadcast_to(outer, n).copy()
    columns[((scales & 0x7F) == 0x7F).any(axis=1)] = np.nan
    return PackedWeight(fmt.name, n, k, _pack_codes(codes), _pack_scales(scales, fmt), columns, outer)


def unpack_nvfp4(packed: PackedWeight) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """The checkpoint tensors that pack_nvfp4 was given: weight, weight_scale (codes), weight_scale_2."""
    if packed.format != "nvfp4":
        raise PackError(f"unpack_nvfp4 needs a packed nvfp4 weight, this one is {packed.format}")
    fmt = FORMATS["nvfp4"]
    weight = _unpack_codes(packed.codes)[: packed.n, : packed.k // 2]
    rows = packed.scales.transpose(1, 2, 0, 3).reshape(-1, packed.scales.shape[0] * fmt.scales_per_brick)
    scales = rows[: packed.n, : packed.k // fmt.block]
    return np.ascontiguousarray(weight), np.ascontiguousarray(scales), packed.weight_scale_2


_PACKERS: dict[str, Callable[[Any, Any, Any], PackedWeight]] = {"nvfp4": pack_nvfp4}


def _check_codes(codes: NDArray[np.uint8], fmt: WeightFormat) -> tuple[int, int]:
    if codes.ndim != 2 or 0 in codes.shape:
        raise PackError(f"weight has shape {list(codes.shape)}: two 4-bit codes a byte, [N, K/2], are needed")
    n, k = codes.shape[0], 2 * codes.shape[1]
    if k % fmt.block:
        raise PackError(f"weight has K = {k}, which is no multiple of {fmt.name}'s block of {fmt.block}")
    return n, k


def _bytes_of(tensor: Any, name: str, *dtypes: str) -> NDArray[np.uint8]:
    """The bytes of a one-byte-per-element tensor whose dtype is one of `dtypes`."""
    dtype = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
    if dtype not in dtypes:
        raise PackError(f"{name} has dtype {dtype}: {' or '.join(dtypes)} is needed")
    if type(tensor).__module__.startswith("torch"):
        import torch

        return tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return np.ascontiguousarray(tensor).view(np.uint8)


def _outer_of(scale: Any, n: int) -> NDArray[np.float32]:
    if hasattr(scale, "detach"):  # a torch tensor, perhaps on a GPU
        scale = scale.detach().cpu()
    given = np.asarray(scale)
    if given.dtype.kind not in "fiu" or (given.dtype.kind == "f" and given.dtype.itemsize not in (2, 4, 8)):
        raise PackError(f"weight_scale_2 has dtype {given.dtype}: float32 is needed")
    with np.errstate(over="ignore"):
        outer = given.astype(np.float32)
    if (np.isinf(outer) & np.isfinite(given)).any():
        raise PackError("weight_scale_2 has a value beyond float32")
    if outer.shape == (1,):
        outer = outer.reshape(())
    if outer.shape not in ((), (n,)):
        raise PackError(f"weight_scale_2 has shape {list(outer.shape)}: a scalar or [N] = [{n}] is needed")
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
        words = _scatter_bits(halves[..., 0, :], halves[..., 1, :])
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
        natural = _gather_bits(part)
        out[tile : tile + step, :, :, :, 0] = natural & 0xFFFF
        out[tile : tile + step, :, :, :, 1] = natural >> 16
    return out.view(np.uint8).reshape(tiles_n * BRICK_N, tiles_k * (BRICK_K // 2))


def _pack_scales(scales: NDArray[np.uint8], fmt: WeightFormat) -> NDArray[np.uint8]:
    """uint8 [N, K/block] -> uint8 [K/128, N/16, 16, 128/block], padded with zero scales."""
    padded = _padded(scales, fmt.scales_per_brick)
    bricks = padded.reshape(padded.shape[0] // BRICK_N, BRICK_N, -1, fmt.scales_per_brick)
    return np.ascontiguousarray(bricks.transpose(2, 0, 1, 3))


def _scatter_bits(low: NDArray[np.uint16], high: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Dwords in kernel bit order from the codes of g = 0 and g = 1, four nibbles each, lowest k in the lowest nibble."""
    table = _bit_tables()[0]
    return table[0][low] | table[1][high]


def _gather_bits(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The inverse: eight nibbles in order of k from dwords in kernel bit order."""
    table = _bit_tables()[1]
    return table[0][words & 0xFFFF] | table[1][words >> 16]


@lru_cache(maxsize=1)
def _bit_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The bit permutation CODE_BITS and its inverse, each as two tables over 16-bit halves: uint32 [2, 65536]."""
    place = [bits[3 - bit] for bits in CODE_BITS for bit in range(4)]  # natural bit 4 i + b -> kernel bit
    inverse = [place.index(bit) for bit in range(32)]
    return _half_tables(place), _half_tables(inverse)


def _half_tables(place: list[int]) -> NDArray[np.uint32]:
    values = np.arange(1 << 16, dtype=np.uint32)
    tables = np.zeros((2, 1 << 16), np.uint32)
    for half in range(2):
        for bit in range(16):
            tables[half] |= ((values >> np.uint32(bit)) & np.uint32(1)) << np.uint32(place[16 * half + bit])
    return tables
