"""Find a compiler that really compiles for an architecture, and keep why the others were passed over."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from petitgen.errors import ToolchainError
from petitgen.toolchain import routes
from petitgen.toolchain.compiler import CompileError, Compiler

# Uses the buffer builtins that the templates stand on, so that a clang too old for them is passed over here.
PROBE = """\
typedef unsigned u32x4 __attribute__((ext_vector_type(4)));
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(1, 64))) void probe(u32x4 d) {
  void *base = (void *)(((unsigned long long)(d[1] & 0xffff) << 32) | d[0]);
  __amdgpu_buffer_rsrc_t r = __builtin_amdgcn_make_buffer_rsrc(base, 0, d[2], d[3]);
  unsigned at = __builtin_amdgcn_workitem_id_x() * 16;
  __builtin_amdgcn_raw_buffer_store_b128(__builtin_amdgcn_raw_buffer_load_b128(r, at, 0, 0), r, at, 0, 0);
}
"""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A candidate that was not taken, and why, each in one line."""

    candidate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The compiler taken for `arch`, and those that come before it but do not work here."""

    arch: str
    selected: Compiler
    passed_over: tuple[PassedOver, ...] = ()


def choose(arch: str, hipcc: str | None = None, environ: Mapping[str, str] = os.environ) -> Choice:
    """The first compiler that makes a code object for `arch` (gfx90a, gfx942).

    hipcc   a path, a command name or "ziglang": that compiler or a ToolchainError, never another one
    Raises ToolchainError naming every candidate and its fault when none works.
    """
    passed: list[PassedOver] = []
    named = routes.named(hipcc, environ)
    candidates = routes.explicit(*named) if named else routes.automatic(environ)
    for candidate in candidates:
        if isinstance(candidate, tuple):
            passed.append(PassedOver(*candidate))
            continue
        try:
            return Choice(arch, probe(candidate, arch), tuple(passed))
        except ToolchainError as error:
            passed.append(PassedOver(f"{candidate.route}: {candidate.detail}", _reason(error)))
    tried = "".join(f"\n  {one.candidate}: {one.reason}" for one in passed)
    wanted = f"{named[0]} {named[1]} cannot compile" if named else "no compiler found that can compile"
    raise ToolchainError(f"{wanted} for {arch}{tried}\n  To get one: pip install ziglang")


def probe(compiler: Compiler, arch: str) -> Compiler:
    """`compiler` with its version, if it can make a code object for `arch`; ToolchainError otherwise."""
    with tempfile.TemporaryDirectory(prefix="petitgen-probe-") as directory, ThreadPoolExecutor(1) as pool:
        version = pool.submit(_version, compiler)
        source = Path(directory) / "probe.hip"
        source.write_text(PROBE)
        compiler.compile(source, arch)
        return replace(compiler, version=version.result())


def _version(compiler: Compiler) -> str:
    """The line that names the clang, which holds no path: "Debian clang version 19.1.7 (3~deb12u1)"."""
    status, text = compiler.run(["--version"], timeout=60)
    clang = next((line.strip() for line in text.splitlines() if re.search(r"\bclang version\b", line)), None)
    if status != 0 or clang is None:
        raise ToolchainError(f"{compiler.detail}: --version names no clang: {text[:200]!r}")
    hip = re.search(r"^HIP version: (\S+)", text, re.MULTILINE)
    return f"HIP {hip[1]}, {clang}" if hip else clang


def _reason(error: ToolchainError) -> str:
    """The one line of a compiler's complaint that says what is wrong."""
    text = error.output if isinstance(error, CompileError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
