"""What tests and curious programs may ask of the virtual GPU beside HIP: failures on purpose, counts, the last story.

All of it is about the virtual libamdhip64 of this process; DriverError when there is none.
"""

from __future__ import annotations

import ctypes

from petitgen.driver.activate import mapped
from petitgen.errors import DriverError

THINGS = ("allocations", "streams", "events", "modules", "graphs", "bytes")


def _library() -> ctypes.CDLL:
    for name in mapped():
        library = ctypes.CDLL(name)
        if hasattr(library, "petitgen_virtual_story"):
            library.petitgen_virtual_calls.restype = ctypes.c_long
            library.petitgen_virtual_live.restype = ctypes.c_long
            library.petitgen_virtual_story.restype = ctypes.c_size_t
            library.petitgen_virtual_story.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
            return library
    raise DriverError("this process has no virtual GPU: petitgen.driver.activate() first")


def fail(what: str = "") -> None:
    """Make calls fail: "hipMalloc:3" is the third one from now on, "hipMalloc:3:hipErrorOutOfMemory" with that error.

    Several with commas; "*:7" is the seventh call of any function. Nothing stops it. Counting starts anew.
    """
    if _library().petitgen_virtual_fail(what.encode()) < 0:
        raise DriverError(f"{what!r}: function:count or function:count:error, with commas between")


def calls(function: str | None = None) -> int:
    """How often a function was called since the last fail(), or all of them together (but for the last error's)."""
    count: int = _library().petitgen_virtual_calls(function.encode() if function else None)
    if count < 0:
        raise DriverError(f"{function} is not served by the virtual GPU; shim/functions.table lists what is")
    return count


def live() -> dict[str, int]:
    """How many allocations, streams, events, modules and graphs there are, and the bytes of the allocations."""
    library = _library()
    return {thing: library.petitgen_virtual_live(thing.encode()) for thing in THINGS}


def story() -> str:
    """What the log said last, or nothing."""
    library = _library()
    text = ctypes.create_string_buffer(library.petitgen_virtual_story(None, 0) + 1)
    library.petitgen_virtual_story(text, len(text))
    return text.value.decode(errors="replace").strip()
