"""The object cache: keys see what matters, damaged entries are not used."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from petitgen.build.objects import ObjectCache, object_key
from petitgen.toolchain import Compiler

COMPILER = Compiler("PATH", "hipcc", ("/opt/rocm/bin/hipcc",), version="clang version 19.1.7")


def key(compiler: Compiler = COMPILER, arch: str = "gfx942", name: str = "k", source: str = "int;") -> str:
    return object_key(compiler, arch, name, source)


@pytest.mark.parametrize(
    "other",
    [
        {"compiler": replace(COMPILER, version="clang version 19.1.8")},
        {"compiler": replace(COMPILER, name="ziglang")},
        {"arch": "gfx90a"},
        {"name": "k2"},
        {"source": "int ;"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_key_changes_with(other: dict) -> None:
    assert key(**other) != key()


def test_key_changes_with_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr("petitgen.toolchain.flags.FLAGS", ("-O2",))
    assert key() != before


def test_key_does_not_depend_on_where_the_compiler_is() -> None:
    assert key(replace(COMPILER, route="--hipcc", command=("/usr/bin/hipcc",), detail="there")) == key()


def test_round_trip(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    assert cache.get(key()) is None
    cache.put(key(), b"\n\x00object\n")
    assert cache.get(key()) == b"\n\x00object\n"


@pytest.mark.parametrize("keep", [0, 10, 64, 65, 70])
def test_truncated_entry_is_no_entry(keep: int, tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put(key(), b"the object")
    (entry,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    entry.write_bytes(entry.read_bytes()[:keep])
    assert cache.get(key()) is None


def test_cache_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ObjectCache(tmp_path / "file")
    cache.put(key(), b"object")
    assert cache.get(key()) is None


def test_prune_drops_what_is_not_used(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    for name in ("old", "used", "new"):
        cache.put(key(name=name), name.encode())
    entries = [path for path in tmp_path.rglob("*") if path.is_file()]
    long_ago = time.time() - 100
    for entry in entries:
        if not entry.read_bytes().endswith(b"new"):
            os.utime(entry, (long_ago, long_ago))
    assert cache.get(key(name="used")) == b"used"
    assert cache.prune(keep_seconds=50) == 1
    assert [cache.get(key(name=name)) for name in ("old", "used", "new")] == [None, b"used", b"new"]
