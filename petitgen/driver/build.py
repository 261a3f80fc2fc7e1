"""Compile the shim, libamdhip64.so: with the C compiler in the ziglang wheel, once for each version of its sources.

What comes out is a directory with the library and the names that programs ask the loader for.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

from petitgen.driver.table import exports_header, exports_source
from petitgen.errors import DriverError
from petitgen.toolchain.cachedir import cache_root, temp_root

SHIM = Path(__file__).resolve().parent / "shim"
LIBRARY = "libamdhip64.so"
LINKS = ("libamdhip64.so.5", "libamdhip64.so.6", "libamdhip64.so.7")  # ROCm 5 to 7: what programs are linked to
FLAGS = (
    "-shared", "-fPIC", "-D_GNU_SOURCE", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-pthread",
    "-fno-sanitize=undefined", f"-Wl,-soname,{LIBRARY}",
)  # fmt: skip


def library() -> Path:
    """The path of the virtual libamdhip64.so, compiled if it has not been yet.

    Any number of processes may do so at once: each compiles in a directory of its own, and one rename wins.
    DriverError if there is no compiler, or nowhere to put the library.
    """
    sources = _sources()
    digest = hashlib.sha256()
    for name, text in sorted(sources.items()):
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    digest.update(repr((FLAGS, LINKS)).encode())
    home = cache_root() / f"virtual-hip-{digest.hexdigest()[:16]}"
    if not (home / LIBRARY).exists():
        _compile(sources, home)
    return home / LIBRARY


def _sources() -> dict[str, bytes]:
    texts = {path.name: path.read_bytes() for path in SHIM.iterdir() if path.suffix in (".c", ".h")}
    texts["exports.c"] = exports_source().encode()
    texts["exports.h"] = exports_header().encode()
    return texts


def _compile(sources: dict[str, bytes], home: Path) -> None:
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise DriverError(
            "the virtual GPU is compiled with the ziglang wheel, which is not installed: pip install ziglang"
        )
    zig = Path(spec.submodule_search_locations[0]) / "zig"
    with tempfile.TemporaryDirectory(prefix=".virtual-hip-", dir=home.parent) as directory:
        work = Path(directory)
        for name, text in sources.items():
            (work / name).write_bytes(text)
        made = work / "made"
        made.mkdir()
        names = sorted(name for name in sources if name.endswith(".c"))
        command = [str(zig), "cc", *FLAGS, *names, "-o", f"made/{LIBRARY}"]
        zig_cache = cache_root() / "zig"
        environment = {"ZIG_GLOBAL_CACHE_DIR": str(zig_cache), "ZIG_LOCAL_CACHE_DIR": str(zig_cache)} | os.environ
        try:
            done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            raise DriverError(f"{zig}: cannot be run: {error.strerror}; reinstall ziglang") from None
        if done.returncode:
            raise DriverError(
                f"the virtual libamdhip64.so does not compile: {' '.join(command)}\n{done.stderr.strip()}"
            )
        for link in LINKS:
            (made / link).symlink_to(LIBRARY)
        _publish(made, home)


def _publish(made: Path, home: Path) -> None:
    try:
        os.rename(made, home)
    except OSError as error:
        if not (home / LIBRARY).exists():  # else another process was first, with the same thing
            raise DriverError(
                f"{home}: cannot be made: {error.strerror}; see to {temp_root()} or $XDG_CACHE_HOME"
            ) from None
