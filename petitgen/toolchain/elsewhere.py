"""Compiling on an executor's workers: source text goes out, a code object comes back."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path
from tempfile import TemporaryDirectory

from petitgen.errors import ExecutorError
from petitgen.toolchain.compiler import Compiler


def compile_on(executor: Executor, compiler: Compiler, arch: str, name: str, source: str) -> bytes:
    """What Compiler.compile gives for `source`, made by a worker, which has the same compiler at the same path.

    CompileError and ToolchainError as there; ExecutorError when the worker dies.
    """
    try:
        return executor.submit(compile_text, compiler, arch, name, source).result()
    except BrokenExecutor as error:
        raise ExecutorError(f"the worker that compiled {name} died, out of memory perhaps") from error


def compile_text(compiler: Compiler, arch: str, name: str, source: str) -> bytes:
    """Compile in a directory of its own: nothing of the path reaches the output."""
    with TemporaryDirectory(prefix="petitgen-") as folder:
        path = Path(folder) / f"{name}.hip"
        path.write_text(source, encoding="utf-8")
        return compiler.compile(path, arch)
