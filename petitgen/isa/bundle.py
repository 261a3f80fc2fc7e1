"""Clang offload bundles: several targets' code in one file.

Source: "Clang Offload Bundler" in the clang documentation, Bundled Binary File Layout.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from petitgen.errors import CodeObjectError

MAGIC = b"__CLANG_OFFLOAD_BUNDLE__"
COMPRESSED_MAGIC = b"CCOB"
MOST_ENTRIES = 1 << 12  # more than any real bundle; refuses a corrupt count early


def bundle_entries(data: bytes, where: str) -> Iterator[tuple[str, bytes]]:
    """(target, bytes) of every entry of an offload bundle. CodeObjectError if it is truncated."""
    try:
        (count,) = struct.unpack_from("<Q", data, len(MAGIC))
        position = len(MAGIC) + 8
        for _ in range(min(count, MOST_ENTRIES)):
            offset, size, length = struct.unpack_from("<QQQ", data, position)
            position += 24
            target = data[position : position + length].decode("ascii")
            position += length
            if offset + size > len(data) or position > len(data):
                raise ValueError
            yield target, data[offset : offset + size]
    except (struct.error, ValueError):
        raise CodeObjectError(f"{where}: offload bundle is truncated; build it again") from None


def unbundle(data: bytes, arch: str | None = None, where: str = "code object") -> bytes:
    """The raw ELF of an offload bundle, or the data as it is if it is none.

    arch    gfx90a, gfx942 (or with features, gfx942:xnack-); needed when the bundle holds several GPU entries
    """
    if data.startswith(COMPRESSED_MAGIC):
        raise CodeObjectError(f"{where}: compressed offload bundle; build with --no-offload-compress")
    if not data.startswith(MAGIC):
        return data
    found = {}
    for target, blob in bundle_entries(data, where):
        match = re.search(r"amdgcn-amd-amdhsa-*(?P<id>gfx\w+(?::\w+[+-])*)$", target)
        if match and blob:
            found[match["id"]] = blob
    wanted = [name for name in found if arch is None or name == arch or name.partition(":")[0] == arch]
    if len(wanted) == 1:
        return found[wanted[0]]
    held = ", ".join(found) or "no GPU code"
    what = f"nothing for {arch}" if not wanted else "several entries fit, name the arch"
    raise CodeObjectError(f"{where}: offload bundle: {what} (it holds {held})")
