"""programs.json holds what llvm-mc makes of each line."""

from __future__ import annotations

import pytest

from ..assembled import assemble
from .programs import recorded

pytestmark = pytest.mark.llvm


def test_bytes_are_the_assemblers() -> None:
    by_arch: dict[str, list[str]] = {}
    for key in recorded():
        arch, _, text = key.partition("|")
        by_arch.setdefault(arch, []).append(text)
    for arch, texts in by_arch.items():
        together = assemble(arch, "\n".join(texts))
        assert together.hex() == "".join(recorded()[f"{arch}|{text}"] for text in texts), arch
