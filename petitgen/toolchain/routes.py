"""Every way to a compiler, in order of preference. Nothing is run here: choose.py finds out which work.

1. --hipcc, else $HIPCC: named on purpose, so nothing else is considered
2. $ROCM_PATH/bin/hipcc
3. hipcc on PATH
4. the clang in the ziglang wheel
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from petitgen.errors import ToolchainError
from petitgen.toolchain.cachedir import cache_root, temp_root, write_atomically
from petitgen.toolchain.compiler import Compiler

ZIGLANG = "ziglang"
NEWEST_CLANG, OLDEST_CLANG = 30, 19  # clang 19 brought __amdgpu_buffer_rsrc_t
# hipcc takes NVIDIA's compiler when it sees one, unless told.
AMD = ("HIP_PLATFORM", "amd")


def named(hipcc: str | None, environ: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """(route, what was named) for an explicitly named compiler, or None."""
    if hipcc:
        return "--hipcc", hipcc
    if environ.get("HIPCC"):
        return "$HIPCC", environ["HIPCC"]
    return None


# A candidate, or (candidate, reason) in place of one that need not be tried.
Candidate = Compiler | tuple[str, str]


def explicit(route: str, value: str) -> list[Candidate]:
    """The compilers meant by `value`, a program or the word ziglang. ToolchainError if it is not there."""
    if value == ZIGLANG:
        compiler = ziglang(route)
        if compiler is None:
            raise ToolchainError(
                f"{route} {value}: the ziglang package is not installed: pip install ziglang"
            )
        return [compiler]
    path = shutil.which(value)
    if path is None:
        hint = f"give the path of hipcc or clang, or {ZIGLANG!r}"
        raise ToolchainError(f"{route} {value}: no such program (or not executable); {hint}")
    if re.fullmatch(r"clang(\+\+)?(-\d+)?", Path(path).name):
        return [Compiler(route, "clang", (os.path.abspath(path),), detail=path)]
    return list(hipcc_variants(route, path))


def automatic(environ: Mapping[str, str] = os.environ) -> Iterator[Candidate]:
    """Compilers nobody named, best first."""
    rocm = environ.get("ROCM_PATH")
    if rocm:
        path = shutil.which(str(Path(rocm) / "bin" / "hipcc"))
        if path:
            yield from hipcc_variants("$ROCM_PATH", path)
        else:
            yield f"$ROCM_PATH: {rocm}/bin/hipcc", "no such program"
    else:
        yield "$ROCM_PATH/bin/hipcc", "ROCM_PATH is not set"
    path = shutil.which("hipcc")
    if path:
        yield from hipcc_variants("PATH", path)
    else:
        yield "hipcc on PATH", "not found"
    zig = ziglang(ZIGLANG)
    yield zig if zig else (ZIGLANG, "the package is not installed: pip install ziglang")


def hipcc_variants(route: str, path: str) -> Iterator[Candidate]:
    """hipcc as it stands; then, if it is tied to one version of clang, the same driving each newer one."""
    path = os.path.abspath(path)
    # --genco: device code only, so that hipcc adds no host libraries.
    command = (path, "--genco")
    tied = None if os.environ.get("HIP_CLANG_PATH") else _tied_clang(Path(path))
    if tied is None or tied >= OLDEST_CLANG:
        yield Compiler(route, "hipcc", command, (AMD,), path)
    else:
        yield f"{route}: {path}", f"drives clang-{tied}, but clang-{OLDEST_CLANG} or newer is needed"
    if tied is None:
        return
    for version in range(NEWEST_CLANG, OLDEST_CLANG - 1, -1):
        clang = shutil.which(f"clang++-{version}")
        if clang and version != tied:
            links = _link_directory(tied, clang)
            environment = (AMD, ("HIP_CLANG_PATH", str(links)))
            yield Compiler(route, "hipcc", command, environment, f"{path} driving clang-{version}")


def ziglang(route: str) -> Compiler | None:
    """The clang of the ziglang wheel, if that is installed."""
    spec = importlib.util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        return None
    zig = Path(spec.submodule_search_locations[0]) / "zig"
    if not zig.exists():
        return None
    command = (str(zig), "clang", "-B", str(_linker_shim(zig)))
    return Compiler(route, ZIGLANG, command, detail=f"clang of {zig}")


def _tied_clang(hipcc: Path) -> int | None:
    """The clang version a packaged hipcc insists on (Debian's asks for clang++-15 by name), or None."""
    for script in (hipcc, hipcc.resolve().with_suffix(".pl")):
        try:
            text = script.read_bytes()[:200_000]
        except OSError:
            continue
        match = re.search(rb"clang\+\+-(\d+)\"", text)
        if match and text.startswith(b"#!"):
            return int(match[1])
    return None


def _link_directory(tied: int, clang: str) -> Path:
    """A directory in which the name hipcc asks for is a link to `clang` (an absolute path)."""
    tag = hashlib.sha256(clang.encode()).hexdigest()[:12]
    root = cache_root()
    if not re.fullmatch(r"[\w./+-]+", str(root)):
        root = temp_root()  # hipcc pastes this path into a shell command without quotes
    directory = root / f"hipcc-clang{tied}-{tag}"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / f"clang++-{tied}"
    if not (link.is_symlink() and os.readlink(link) == clang):
        fresh = directory / f".{link.name}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(clang)
        os.replace(fresh, link)
    return directory


def _linker_shim(zig: Path) -> Path:
    """A directory with the `lld` that clang spawns: zig has its linker as a subcommand only."""
    text = f'#!/bin/sh\nif [ "$1" = -flavor ]; then shift 2; fi\nexec {shlex.quote(str(zig))} ld.lld "$@"\n'
    data = text.encode()
    for root in (cache_root(), temp_root()):
        shim = root / f"ziglang-{hashlib.sha256(data).hexdigest()[:12]}" / "lld"
        if not shim.exists() or shim.read_bytes() != data:
            write_atomically(shim, data, mode=0o755)
        if os.access(shim, os.X_OK):  # false on a file system mounted noexec, whatever the mode
            return shim.parent
    raise ToolchainError(
        f"no directory in which a program may be run: {cache_root()} and {temp_root()} are noexec"
    )
