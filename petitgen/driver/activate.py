"""Make this process, or one that is about to start, use the virtual GPU."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import petitgen
from petitgen.driver.build import LIBRARY, library
from petitgen.errors import DriverError

DEVICES, MEMORY = "PETITGEN_VIRTUAL_DEVICES", "PETITGEN_VIRTUAL_MEMORY"

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([KMGT]?)", re.IGNORECASE)
LARGEST_MEMORY = 4 << 40  # bytes of a device

_active: ctypes.CDLL | None = None


def environment(devices: Sequence[str] | None = None, memory: str | None = None) -> dict[str, str]:
    """The variables that tell the shim which devices there are and how to start the worker.

    DriverError for a memory size that is none.
    """
    variables = {
        "PETITGEN_VIRTUAL_PYTHON": sys.executable,
        "PETITGEN_VIRTUAL_PYTHONPATH": str(Path(petitgen.__file__).resolve().parent.parent),
    }
    if devices is not None:
        variables[DEVICES] = ",".join(devices)
    if memory is not None:
        variables[MEMORY] = _checked_size(memory)
    return variables


def _checked_size(text: str) -> str:
    match = _SIZE.fullmatch(text)
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0.0
    if not 1 <= size <= LARGEST_MEMORY:
        raise DriverError(f"memory {text!r}: bytes of each device, 1 to 4T, such as 512M or 8G")
    return text


def child_environment(
    devices: Sequence[str] | None, memory: str | None, base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """An environment in which an unmodified program finds the virtual libamdhip64.so before any other.

    DriverError when the library cannot be made, or for a memory size that is none.
    """
    variables = environment(devices, memory)
    path = [str(library().parent), *filter(None, base.get("LD_LIBRARY_PATH", "").split(":"))]
    return {**base, **variables, "LD_LIBRARY_PATH": ":".join(path)}


def mapped() -> list[str]:
    """The files of the libamdhip64 libraries in this process."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and Path(fields[5]).name.startswith("libamdhip64") and fields[5] not in found:
            found.append(fields[5])
    return found


def is_active() -> bool:
    """True when this process has the virtual libamdhip64, whoever mapped it."""
    return any(Path(name).parent.name.startswith("virtual-hip-") for name in mapped())


def activate(devices: Sequence[str] | None = None, memory: str | None = None) -> Path:
    """Map the virtual libamdhip64.so, so that hip-python and everything else in this process uses it.

    devices  architectures, one a device: ["gfx942", "gfx90a"]; default $PETITGEN_VIRTUAL_DEVICES, or one gfx942
    memory   bytes of each device, "8G"; default $PETITGEN_VIRTUAL_MEMORY, or 16G
    Returns the library's file. A second time it changes nothing, and asks that the devices be the same.
    DriverError when another libamdhip64 is mapped, the library cannot be made, or the memory is no size.
    """
    global _active
    path = library()
    others = [name for name in mapped() if not _same(name, path)]
    if others:
        raise DriverError(
            f"another HIP runtime is already in this process: {others[0]}. Activate the virtual GPU before anything "
            "imports hip or a ROCm build of torch, or start the program with `petitgen virtual -- ...`"
        )
    first = not any(_same(name, path) for name in mapped())
    if first:
        os.environ.update(environment(devices, memory))
    if _active is None:
        _active = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    _check_devices(devices)
    return path


def _check_devices(devices: Sequence[str] | None) -> None:
    there = os.environ.get(DEVICES, "gfx942")
    if devices is not None and there != ",".join(devices):
        raise DriverError(
            f"the virtual GPU of this process has the devices {there}, asked for {','.join(devices)}: devices are "
            f"chosen once a process; activate all that are needed, or set ${DEVICES}"
        )


def check_used() -> None:
    """DriverError unless the one libamdhip64 of this process is the virtual one: to be called after importing hip."""
    path = library()
    wrong = [name for name in mapped() if not _same(name, path)]
    if wrong or not mapped():
        raise DriverError(f"HIP calls go to {', '.join(wrong) or 'no library'}, not to the virtual {LIBRARY} ({path})")


def _same(name: str, path: Path) -> bool:
    try:
        return os.path.samefile(name, path)
    except OSError:
        return False
