"""Correct code gives no finding: every test of compiled kernels once more, with every check on.

By both compilers and for both architectures, optimized and not: what compilers make of arithmetic, divergent control
flow, LDS, atomics, spin locks, scratch and calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from petitgen.emulator import launch
from petitgen.emulator.sanitizer import Finding
from petitgen.isa import CodeObject

from .. import test_kernels
from ..conftest import Build

# These kernels leave their buffers on purpose.
LEAVES_BUFFERS = {"test_range_checked_copy", "test_pieces_of_every_width"}

for _name, _test in vars(test_kernels).items():
    if _name.startswith("test_") and callable(_test):
        globals()[_name] = _test


@pytest.fixture(autouse=True)
def findings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sanitize the launches of a test; fail it if they find anything."""
    found: list[Finding] = []
    launches = 0

    def sanitized(*arguments: Any, **options: Any) -> Any:
        nonlocal launches
        launches += 1
        result = launch(*arguments, **{"sanitize": True, **options})
        found.extend(result.findings)
        return result

    monkeypatch.setattr(test_kernels, "launch", sanitized)
    yield
    assert launches
    allowed = {"out-of-range"} if request.function.__name__ in LEAVES_BUFFERS else set()
    assert [str(f) for f in found if f.check not in allowed] == []


FIBONACCI = [0, 1, 1, 2, 3, 5, 8, 13]


@pytest.mark.parametrize("items", [64, 40, 3])
def test_recursion(kernels: Build, items: int) -> None:
    """A callee saves registers that nobody has given a value, in every lane or in those that take part."""
    out = np.zeros(64, np.uint32)
    test_kernels.launch(kernels("calls"), "recursive", 1, items, [out, np.uint32(items - 1)])
    assert out.tolist() == [FIBONACCI[i & 7] if i < items - 1 else 0 for i in range(64)]


@pytest.mark.compiler
@pytest.mark.parametrize("items", [64, 40])
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_unoptimized_recursion(built: Callable[..., CodeObject], arch: str, items: int) -> None:
    """Without optimization whole waves save registers, whatever their lanes do."""
    out = np.zeros(64, np.uint32)
    code = built("calls", arch, "ziglang", optimize=False)
    test_kernels.launch(code, "recursive", 1, items, [out, np.uint32(items - 1)])
    assert out.tolist() == [FIBONACCI[i & 7] if i < items - 1 else 0 for i in range(64)]


PACKED = np.dtype([("tag", "u1"), ("word", "<u4"), ("half", "<u2"), ("wide", "<u8")])


def test_packed_structs(kernels: Build) -> None:
    """Compilers load and store their members wherever they lie, in memory and in LDS."""
    given = np.frombuffer(np.random.default_rng(1).bytes(60 * PACKED.itemsize), PACKED)
    out = np.zeros_like(given)
    result = test_kernels.launch(
        kernels("calls"), "packed", 1, 64, [given.view(np.uint8), out.view(np.uint8), np.uint32(60)]
    )
    expected = given.copy()
    expected["word"] += given["tag"]
    expected["wide"] ^= given["half"]
    assert out.tobytes() == expected.tobytes()
    assert result.misaligned
