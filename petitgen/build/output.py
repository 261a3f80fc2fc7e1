"""generated/<arch>/ as a whole: one writer at a time, every file complete, the manifest last."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from petitgen import __version__
from petitgen.build.state import file_state
from petitgen.errors import BuildError
from runtime import manifest
from runtime.errors import ManifestError

TEMPORARY = ".build-"  # prefix of the directories a build works in
LOCK = ".lock"


class OutputDirectory:
    """The directory of one arch, held exclusively between __enter__ and __exit__.

    Only the holder of the lock makes temporary directories, and a process that dies loses the lock. So any
    temporary directory found on entry belongs to the dead, and is removed.
    """

    def __init__(self, root: Path, arch: str, note: Callable[[str], None] = lambda text: None) -> None:
        self.path = root / arch
        self.arch = arch
        self.work = self.path
        self._note = note
        self._lock = -1

    def __enter__(self) -> OutputDirectory:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._acquire()
            for stale in self.path.glob(f"{TEMPORARY}*"):
                shutil.rmtree(stale, ignore_errors=True)
            self.work = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=self.path))
        except OSError as error:
            self._release()
            raise BuildError(f"{self.path}: cannot be written to: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self._release()

    def previous(self, names: Collection[str]) -> dict[str, manifest.Kernel]:
        """Of `names`, what the manifest that is there lists and whose code object is there too, unharmed."""
        if not names or not (self.path / manifest.FILE_NAME).exists():
            return {}
        try:
            kernels = manifest.Manifest.load(self.path).kernels
        except ManifestError as error:
            raise BuildError(f"{error}; this build of some kernels keeps the others that are listed there: build all, with petitgen"
                             f" build, or remove {self.path}") from error  # fmt: skip
        kept = {name: kernel for name, kernel in kernels.items() if name in names}
        for name in [name for name, kernel in kept.items() if not self._intact(kernel)]:
            self._note(f"{self.path}: {name} is missing or damaged, and dropped: petitgen build {name}")
            del kept[name]
        return kept

    def install(
        self,
        kernels: Mapping[str, manifest.Kernel],
        files: Mapping[str, bytes],
        keep: Collection[str],
    ) -> None:
        """Put `files` (by name) in place, then a manifest of `kernels`, then drop every other kernel file.

        keep  names of .hip files that stay although no kernel lists them: sources that did not compile
        A file that has the right content is not touched. Killed at any point, what is left is a mix of
        complete files; the next build compares content and sets right what differs.
        """
        listing = manifest.Manifest(manifest.SCHEMA, __version__, self.arch, kernels)
        wanted = {kernel.file for kernel in kernels.values()} | {kernel.source for kernel in kernels.values()}
        try:
            for name in sorted(files):
                self._replace(name, files[name])
            self._replace(manifest.FILE_NAME, listing.to_json().encode())
            for path in self._kernel_files():
                if path.name not in wanted and path.name not in keep:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise BuildError(f"{self.path}: cannot be written to: {error.strerror or error}") from error

    def _kernel_files(self) -> Iterator[Path]:
        yield from self.path.glob("*.hsaco")
        yield from self.path.glob("*.hip")

    def _replace(self, name: str, data: bytes) -> None:
        target = self.path / name
        with contextlib.suppress(OSError):
            if target.read_bytes() == data:
                return
        fresh = self.work / f"{name}.new"
        fresh.write_bytes(data)
        os.replace(fresh, target)

    def _intact(self, kernel: manifest.Kernel) -> bool:
        return file_state(self.path, kernel) == "ok" and (self.path / kernel.source).exists()

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._note(f"{self.path}: another build is at work here, waiting for it")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)  # drops the lock
            self._lock = -1
