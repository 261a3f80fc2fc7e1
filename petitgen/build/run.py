"""A build from end to end. Every kernel is tried; the right ones are installed even when others fail."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from petitgen.build.describe import describe
from petitgen.build.objects import ObjectCache, object_key
from petitgen.build.output import OutputDirectory
from petitgen.errors import ExecutorError, PetitgenError
from petitgen.spec.model import KernelInstance
from petitgen.toolchain import Choice, CompileError, choose
from petitgen.toolchain.cachedir import cache_root
from petitgen.toolchain.elsewhere import compile_on
from runtime.manifest import Kernel

Render = Callable[[KernelInstance], str]
MOST_ELSEWHERE = 256  # kernels that workers of an executor have at a time; a thread here waits for each


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one kernel.

    state    "compiled", "cached" (the object was in the cache) or "failed"
    kernel   its manifest entry, unless it failed
    error    why it failed: one line, or the compiler's output
    command  the compiler command that failed, to be run in generated/<arch>/
    """

    name: str
    arch: str
    state: str
    seconds: float
    kernel: Kernel | None = None
    error: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes by name, and the compiler taken for each arch."""

    outcomes: tuple[Outcome, ...]
    choices: tuple[Choice, ...]
    output: Path

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(one for one in self.outcomes if one.state == "failed")


class Observer:
    """Told what a build does, from the thread that runs it. Does nothing; override what is of interest."""

    def note(self, text: str) -> None:
        """Something to know: which compiler is used, who is waited for."""

    def started(self, total: int) -> None:
        """`total` kernels are about to be made."""

    def finished(self, outcome: Outcome) -> None:
        """One of them is."""

    def ended(self) -> None:
        """Nothing more will come, whether all went well or the build was stopped."""


@dataclass(frozen=True, slots=True)
class _Job:
    instance: KernelInstance
    choice: Choice
    work: Path
    cache: ObjectCache
    render: Render
    executor: Executor | None

    def compile(self, source: str) -> bytes:
        compiler, name, arch = self.choice.selected, self.instance.name, self.instance.arch.name
        if self.executor is not None:
            return compile_on(self.executor, compiler, arch, name, source)
        path = self.work / f"{name}.hip"
        path.write_text(source, encoding="utf-8")
        return compiler.compile(path, arch)


@dataclass(frozen=True, slots=True)
class _Made:
    outcome: Outcome
    source: str | None = None
    code: bytes | None = None


def build(
    selected: Sequence[KernelInstance],
    matrix: Sequence[KernelInstance],
    output: Path,
    *,
    hipcc: str | None = None,
    jobs: int | None = None,
    cache: Path | None = None,
    observer: Observer | None = None,
    render: Render | None = None,
    executor: Executor | None = None,
) -> Report:
    """Build `selected` into output/<arch>/, dropping what is no longer in `matrix` (every instance there is).

    hipcc   a compiler named on purpose (petitgen.toolchain.choose)
    jobs    compilers at a time; default: one a core
    cache   directory of compiled objects; default: below the user's cache directory
    executor  where compilers run, in place of here (petitgen.executors); its workers have the compiler of this
              machine at the same path. Everything else is done here
    Kernels that fail are in the report, not raised. Raises ToolchainError when there is no compiler for an
    arch, BuildError when the output directory cannot be written to.
    """
    observer = observer or Observer()
    archs = sorted({instance.arch.name for instance in selected})
    workers = min(MOST_ELSEWHERE, len(selected) or 1) if executor else jobs or os.cpu_count() or 1
    objects = ObjectCache(cache or cache_root() / "objects")
    with ExitStack() as stack:
        stack.callback(observer.ended)
        # In order of name, so that two builds of the same directories cannot wait for each other.
        places = {arch: stack.enter_context(OutputDirectory(output, arch, observer.note)) for arch in archs}
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        found = pool.map(lambda arch: choose(arch, hipcc), archs)
        render = render or _default_render()  # imported while the compilers are tried
        choices = dict(zip(archs, found, strict=True))
        for arch, choice in choices.items():
            observer.note(f"{arch}: {choice.selected.detail}, {choice.selected.version}")
        observer.started(len(selected))
        made = _make_all(
            [
                _Job(one, choices[one.arch.name], places[one.arch.name].work, objects, render, executor)
                for one in selected
            ],
            pool,
            observer,
        )
        for arch, place in places.items():
            names = {one.name for one in matrix if one.arch.name == arch}
            _install(place, names, [one for one in made if one.outcome.arch == arch])
        objects.prune()
    outcomes = tuple(sorted((one.outcome for one in made), key=lambda outcome: outcome.name))
    return Report(outcomes, tuple(choices.values()), output)


def _make_all(jobs: Sequence[_Job], pool: ThreadPoolExecutor, observer: Observer) -> list[_Made]:
    futures: list[Future[_Made]] = [pool.submit(_make, job) for job in jobs]
    made = []
    try:
        for future in as_completed(futures):
            made.append(future.result())
            observer.finished(made[-1].outcome)
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    return made


def _make(job: _Job) -> _Made:
    """Render, compile (or find) and check one kernel. Never raises for a fault of the kernel."""
    start = time.monotonic()
    instance, compiler = job.instance, job.choice.selected
    name, arch = instance.name, instance.arch.name
    source = None
    try:
        source = job.render(instance)
        key = object_key(compiler, arch, name, source)
        code = job.cache.get(key)
        state = "cached" if code is not None else "compiled"
        if code is None:
            code = job.compile(source)
            job.cache.put(key, code)
        kernel = describe(instance, source, code, compiler)
    except CompileError as error:
        return _Made(Outcome(name, arch, "failed", time.monotonic() - start, None, error.output, error.command), source)
    except ExecutorError:  # no other kernel will fare better
        raise
    except (PetitgenError, OSError) as error:  # OSError: a full disk, say
        return _Made(Outcome(name, arch, "failed", time.monotonic() - start, None, str(error)), source)
    except Exception as error:  # a fault of petitgen's own: the other kernels are made all the same
        text = "".join(traceback.format_exception(error))
        return _Made(Outcome(name, arch, "failed", time.monotonic() - start, None, text), source)
    return _Made(Outcome(name, arch, state, time.monotonic() - start, kernel), source, code)


def _install(place: OutputDirectory, matrix: set[str], made: Sequence[_Made]) -> None:
    """Merge with what a build of part of the matrix leaves alone, and write."""
    tried = {one.outcome.name for one in made}
    kernels: dict[str, Kernel] = place.previous(matrix - tried)
    files: dict[str, bytes] = {}
    broken = set()
    for one in made:
        name, kernel = one.outcome.name, one.outcome.kernel
        if one.source is not None:
            files[f"{name}.hip"] = one.source.encode()
        if kernel is not None and one.code is not None:
            kernels[name] = kernel
            files[kernel.file] = one.code
        else:
            broken.add(f"{name}.hip")  # left for whoever runs the failed command by hand
    place.install(kernels, files, broken)


def _default_render() -> Render:
    from petitgen.render import render

    return render
