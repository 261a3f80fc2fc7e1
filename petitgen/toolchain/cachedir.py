"""Where petitgen keeps what it may lose: linker shims, links to compilers, compiled objects."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def cache_root() -> Path:
    """$XDG_CACHE_HOME/petitgen, or ~/.cache/petitgen, or else temp_root(). Made if missing."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The XDG base directory specification: a relative path is to be ignored.
        root = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "petitgen"
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK | os.X_OK):
            return root
    except (OSError, RuntimeError):
        pass  # a read-only home, or a user without one: common in containers
    return temp_root()


def temp_root() -> Path:
    """A directory of this user alone below the temp dir, used when there is no home to write to."""
    root = Path(tempfile.gettempdir()) / f"petitgen-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        status = root.lstat()
        # In a shared /tmp somebody else may have made this name first, and compilers run from here.
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022:
            return root
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="petitgen-"))


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `path` so that a reader, or a run after a crash, sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
