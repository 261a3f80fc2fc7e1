"""How the loops are compiled, and that what is kept on disk is never older than its source."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba

from petitgen.profiler import classes, machine, result

# Counting references of arrays would take most of the time: nothing in a loop makes an array, and nothing is counted.
_UNCOUNTED: dict[str, Any] = {"_nrt": False}
inlined: Any = numba.njit(inline="always", **_UNCOUNTED)
called: Any = numba.njit(error_model="numpy", **_UNCOUNTED)  # not so often; compiling them once saves time


def kept(function: Callable[..., Any]) -> Any:
    """Compiled at its first call, with all that it calls; kept on disk where that can be.

    numba looks only at the file of `function` to tell whether what is on disk is still right. What it calls stands in
    other files, so the name that it is kept under says what is in those.
    """
    function.__qualname__ = f"{function.__name__}_{_digest()}"
    try:
        return numba.njit(cache=True, error_model="numpy", **_UNCOUNTED)(function)
    except RuntimeError as error:
        if "cache" not in str(error):
            raise
        return numba.njit(error_model="numpy", **_UNCOUNTED)(function)


def _digest() -> str:
    """Of the sources of the loops and of the numbers that they are compiled with."""
    others = (Path(str(module.__file__)) for module in (classes, machine, result))
    text = b"".join(path.read_bytes() for path in (*sorted(Path(__file__).parent.glob("*.py")), *others))
    return sha256(text).hexdigest()[:16]
