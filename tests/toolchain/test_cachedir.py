"""Where files that may be lost are kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from petitgen.toolchain.cachedir import cache_root, temp_root, write_atomically


def test_xdg_cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "petitgen"
    assert cache_root().is_dir()


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "petitgen"


def test_no_home_to_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the cache directory should be: a home that not even root can write to."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_root() == tmp_path / f"petitgen-{os.getuid()}"


def test_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An arbitrary user id that /etc/passwd does not know."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_root() == tmp_path / f"petitgen-{os.getuid()}"


def test_temporary_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link or a directory others may write to is not run programs from."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trap = tmp_path / f"petitgen-{os.getuid()}"
    trap.symlink_to(tmp_path)
    first = temp_root()
    trap.unlink()
    trap.mkdir()
    trap.chmod(0o777)
    second = temp_root()
    assert trap not in (first, second)
    assert first.stat().st_mode & 0o777 == second.stat().st_mode & 0o777 == 0o700


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two", mode=0o755)
    assert path.read_bytes() == b"two"
    assert os.access(path, os.X_OK)
    assert list(path.parent.iterdir()) == [path]
