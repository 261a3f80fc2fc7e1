"""generated/<arch>/: locking, temporary directories, and what is cleaned away."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from petitgen.build.output import OutputDirectory


def test_stale_temporary_directories_go_and_nothing_else(tmp_path: Path) -> None:
    stale = tmp_path / "gfx942" / ".build-dead"
    stale.mkdir(parents=True)
    (stale / "half.hsaco").write_bytes(b"\x7fEL")
    (tmp_path / "gfx942" / "notes.txt").write_text("mine")
    with OutputDirectory(tmp_path, "gfx942") as place:
        assert not stale.exists()
        assert place.work.is_dir()
        assert place.work.parent == place.path
        place.install({}, {}, ())
    assert sorted(path.name for path in place.path.iterdir()) == [".lock", "manifest.json", "notes.txt"]


def test_temporary_directory_goes_when_a_build_raises(tmp_path: Path) -> None:
    try:
        with OutputDirectory(tmp_path, "gfx942") as place:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert not place.work.exists()


def test_second_builder_waits_and_says_so(tmp_path: Path) -> None:
    """It does not touch the first one's temporary directory, and goes on when the first is done."""
    messages: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with OutputDirectory(tmp_path, "gfx942", messages.append):
            entered.set()

    with OutputDirectory(tmp_path, "gfx942") as first:
        thread = threading.Thread(target=second)
        thread.start()
        while not messages:
            thread.join(0.01)
        assert not entered.is_set()
        assert first.work.is_dir()
    thread.join(10)
    assert entered.is_set()
    assert "another build is at work" in messages[0]


def test_lock_is_not_inherited(tmp_path: Path) -> None:
    """A compiler that outlives its build must not keep the lock: the descriptor closes on exec."""
    with OutputDirectory(tmp_path, "gfx942") as place:
        inodes = {os.stat(place.path / ".lock").st_ino}
        held = [fd for fd in map(int, os.listdir("/proc/self/fd")) if _inode(fd) in inodes]
        assert held
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in held)


def _inode(fd: int) -> int:
    try:
        return os.fstat(fd).st_ino
    except OSError:  # the descriptor listdir itself used
        return -1
