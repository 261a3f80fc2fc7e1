"""Correct code gives no finding: every test of compiled kernels once more, with every check on.

By both compilers and for both architectures, optimized and not: what compilers make of arithmetic, divergent control
flow, LDS, atomics, spin locks, scratch and calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from petitgen.emulator import launch
from petitgen.emulator.sanitizer import Finding

from .. import test_kernels

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
