"""What has been built and verified below a generated/ directory, for those who list it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from petitgen.toolchain.cachedir import write_atomically
from runtime.errors import ManifestError
from runtime.manifest import FILE_NAME, Kernel, Manifest

VERIFIED = "verified.json"


@dataclass(frozen=True, slots=True)
class Verified:
    """A verification of the code object with this hash: how many cases, and whether all were right."""

    sha256: str
    ok: bool
    cases: int


def built(generated: Path, arch: str, note: Callable[[str], None]) -> Mapping[str, Kernel]:
    """What is listed as built for `arch`; empty if nothing is. A manifest that cannot be read is told to `note`."""
    if not (generated / arch / FILE_NAME).exists():
        return {}
    try:
        return Manifest.load(generated / arch).kernels
    except ManifestError as error:
        note(str(error))
        return {}


def file_state(directory: Path, kernel: Kernel) -> str:
    """"ok", "missing" or "damaged": is the code object in `directory` the one that the manifest speaks of?"""
    try:
        data = (directory / kernel.file).read_bytes()
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "damaged"
    return "ok" if hashlib.sha256(data).hexdigest() == kernel.sha256 else "damaged"


def verified(generated: Path, arch: str) -> dict[str, Verified]:
    """The last verification of each kernel of `arch`; empty if there is none to be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        data = json.loads((generated / arch / VERIFIED).read_text(encoding="utf-8"))
        return {name: Verified(**facts) for name, facts in data.items()}
    return {}


def record(generated: Path, arch: str, results: Mapping[str, Verified]) -> None:
    """Add `results` to what is known about `arch`. Where nothing can be written, only this note is lost."""
    known = {**verified(generated, arch), **results}
    text = json.dumps({name: asdict(known[name]) for name in sorted(known)}, indent=1) + "\n"
    with contextlib.suppress(OSError):
        write_atomically(generated / arch / VERIFIED, text.encode())
