"""Which built kernel to verify: one of a manifest, or a code object of one's own put in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from petitgen.errors import VerifyError
from runtime.errors import RuntimeLibraryError
from runtime.manifest import FILE_NAME, GEMMS, Kernel, Manifest


@dataclass(frozen=True, slots=True)
class Target:
    """A kernel of a manifest.

    manifest     path of manifest.json
    code_object  run in place of the manifest's, with the same arguments (a mutated or hand-built one)
    """

    manifest: Path
    name: str
    code_object: Path | None = None

    @property
    def arch(self) -> str:
        return _load(self.manifest).arch

    @property
    def path(self) -> Path:
        """The code object that runs."""
        return self.code_object or _load(self.manifest).path(self.kernel())

    def kernel(self) -> Kernel:
        """The manifest's facts of the kernel. VerifyError when it is not there."""
        manifest = _load(self.manifest)
        if self.name not in manifest.kernels:
            raise VerifyError(f"{self.manifest}: no kernel {self.name!r}{_suggest(self.name, list(manifest.kernels))}")
        return manifest.kernels[self.name]


def select(generated: Path, patterns: Sequence[str] = (), arch: str | None = None) -> list[Target]:
    """Built kernels whose names match any of the globs (none: all), by arch and name.

    VerifyError when there is nothing built, or a pattern matches nothing.
    """
    manifests = sorted(generated.glob(f"{arch or '*'}/{FILE_NAME}"))
    targets = [Target(path, name) for path in manifests for name in sorted(_load(path).kernels)]
    if not targets:
        raise VerifyError(
            f"{generated}: no kernels built{f' for {arch}' if arch else ''}; build them with: petitgen build"
        )
    for pattern in patterns:
        if not any(fnmatchcase(target.name, pattern) for target in targets):
            raise VerifyError(f"{pattern!r} matches no built kernel{_suggest(pattern, [t.name for t in targets])}")
    return [t for t in targets if not patterns or any(fnmatchcase(t.name, pattern) for pattern in patterns)]


def gemms(targets: Sequence[Target]) -> list[Target]:
    """Those that are plain GEMMs. VerifyError if none is."""
    found = [target for target in targets if target.kernel().op in GEMMS]
    if not found:
        raise VerifyError(f"none of {len(targets)} kernels is a GEMM, which --shape and --slices are of")
    return found


def _suggest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else f"; there are {len(known)}, see: petitgen list"


def _load(path: Path) -> Manifest:
    stat = path.stat() if path.is_file() else None
    return _load_version(path, (stat.st_mtime_ns, stat.st_size) if stat else (0, 0))


@lru_cache(maxsize=16)
def _load_version(path: Path, version: tuple[int, int]) -> Manifest:
    """Keyed by the file's time and size too: a rebuild in the same process is seen."""
    try:
        return Manifest.load(path)
    except RuntimeLibraryError as error:
        raise VerifyError(str(error)) from error
