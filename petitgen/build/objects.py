"""Compiled objects by the hash of everything that decides their bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path

from petitgen.toolchain.cachedir import write_atomically
from petitgen.toolchain.compiler import Compiler
from petitgen.toolchain.flags import compile_flags

FORMAT = 1  # raise when the meaning of an entry changes
KEEP_SECONDS = 30 * 86400.0


def object_key(compiler: Compiler, arch: str, name: str, source: str) -> str:
    """Hex SHA-256 over source text, flags and compiler.

    Template and spec come in through the text they were rendered to; spec facts that do not reach the text
    (tolerance, limits) cannot change the object, and the manifest takes them from the spec on every build.
    """
    facts = [FORMAT, compiler.identity, arch, name, compile_flags(arch), source]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class ObjectCache:
    """A directory of code objects; an entry is its payload's SHA-256 in hex, a newline, the payload.

    The digest is in the entry so that a damaged one (disk full, bad copy) is compiled again, not shipped.
    Any number of processes may use one directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, key: str) -> bytes | None:
        """The object stored under `key`, or None."""
        path = self._path(key)
        try:
            digest, _, payload = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if hashlib.sha256(payload).hexdigest().encode() != digest:
            return None
        with contextlib.suppress(OSError):
            path.touch()  # prune() goes by last use
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store. A cache that cannot be written to is no reason to fail a build."""
        entry = hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
        with contextlib.suppress(OSError):
            write_atomically(self._path(key), entry)

    def prune(self, keep_seconds: float = KEEP_SECONDS) -> int:
        """Drop entries not used for `keep_seconds`; returns how many."""
        oldest, dropped = time.time() - keep_seconds, 0
        for path in self.directory.glob("*/*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    dropped += 1
        return dropped

    def _path(self, key: str) -> Path:
        return self.directory / key[:2] / key[2:]
