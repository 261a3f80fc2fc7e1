"""What can be known without calling HIP: which libamdhip64 this process has, and which GPUs the kernel driver shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LIBRARY = "libamdhip64.so"
_KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")


def mapped_libraries() -> list[Path]:
    """The libamdhip64 files this process has mapped, each once."""
    found: dict[tuple[str, str], Path] = {}
    for line in _maps():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and Path(fields[5]).name.startswith(LIBRARY):
            found.setdefault((fields[3], fields[4]), Path(fields[5].strip()))
    return list(found.values())


def _maps() -> Iterator[str]:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            yield from file
    except OSError:
        return


def present_archs() -> set[str]:
    """The architectures of the GPUs that the kernel driver shows: {"gfx942"}.

    Asks no library: a libamdhip64 once mapped stays, and rules the virtual GPU's out.
    """
    found = set()
    for properties in _KFD_NODES.glob("*/properties"):
        try:
            fields = dict(line.split(maxsplit=1) for line in properties.read_text().splitlines() if " " in line)
        except OSError:
            continue  # a node that belongs to another container
        version = int(fields.get("gfx_target_version", "0"))  # 90402 is gfx942, 90010 gfx90a; 0 is a CPU
        if version:
            found.add(f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}")
    return found
