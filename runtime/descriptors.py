"""128-bit buffer resource descriptors (V#), built on the host so that kernels need no branch for tails.

A raw buffer load at or past `num_records` reads 0 and a store there is dropped.
Source: AMD CDNA3 ISA (gfx942), "Buffer Resource Descriptor"; CDNA2 (gfx90a) has the same fields.
"""

from __future__ import annotations

import struct

from runtime.errors import DescriptorError

# DATA_FORMAT = 32 bits wide (4 << 15), every other field 0: raw (stride 0), no swizzle, no typed conversion.
WORD3: dict[str, int] = {"gfx90a": 0x00020000, "gfx942": 0x00020000}

MAX_BYTES = 2**32 - 1
ADDRESS_BITS = 48


def buffer_resource(address: int, num_bytes: int, arch: str) -> bytes:
    """The 16-byte descriptor of `num_bytes` at device address `address` (both in bytes) for `arch`.

    Raises DescriptorError for an unknown arch, an address beyond 48 bits and a size num_records cannot hold
    (over 4 GiB - 1): such a buffer has to be rebased by the caller, never wrapped.
    """
    if arch not in WORD3:
        raise DescriptorError(f"no buffer descriptor for arch {arch!r}: known are {', '.join(WORD3)}")
    if not 0 <= address < 2**ADDRESS_BITS:
        raise DescriptorError(f"address {address:#x} does not fit the {ADDRESS_BITS}-bit base of a buffer descriptor")
    if not 0 <= num_bytes <= MAX_BYTES:
        raise DescriptorError(
            f"{num_bytes} bytes do not fit num_records (at most {MAX_BYTES}): split the tensor and rebase each part"
        )
    return struct.pack("<IIII", address & 0xFFFFFFFF, address >> 32, num_bytes, WORD3[arch])


def extent(rows: int, columns: int, pitch: int, itemsize: int) -> int:
    """Bytes from the first to past the last element of a row-major matrix whose rows stand `pitch` elements apart."""
    if rows == 0 or columns == 0:
        return 0
    return ((rows - 1) * pitch + columns) * itemsize
