"""Tuning many problems: a weight at a time, on any executor, into a table as results come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

from petitgen.errors import PetitgenError, TuneError
from petitgen.executors import each
from petitgen.tune.search import MOST, Measure, Try, search
from runtime import tuned
from runtime.errors import RuntimeLibraryError
from runtime.manifest import GEMMS, Kernel, Manifest
from runtime.select import Problem, contract_of

_WORTH = {"virtual": 0, "model": 1, "device": 2}


@dataclass(frozen=True, slots=True)
class Task:
    """One weight [n, k] with each of these numbers of rows, for a device with so many compute units.

    directory  holds the manifest; kernels: names of those that may be chosen
    most       kernels measured for a problem
    hints      (rows, kernel, slices): where to look first
    """

    directory: Path
    contract: str
    n: int
    k: int
    rows: tuple[int, ...]
    compute_units: int
    kernels: tuple[str, ...]
    most: int = MOST
    hints: tuple[tuple[int, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one problem: the row for the table and all that was measured (best first), or why there is none.

    left_out  kernels that could not be measured, and why
    """

    contract: str
    m: int
    n: int
    k: int
    seconds: float
    row: tuned.Row | None = None
    tries: tuple[Try, ...] = ()
    error: str = ""
    left_out: tuple[str, ...] = ()


def tune_weight(task: Task, measure: Measure, measured: str) -> tuple[Result, ...]:
    """In this process. measured: "model" or "device", for the table."""
    manifest = Manifest.load(task.directory)
    kernels = [manifest.kernels[name] for name in task.kernels]
    found: dict[int, Result] = {}
    also: tuple[tuple[str, int], ...] = ()
    for m in sorted(task.rows, reverse=True):  # what is fast for many rows is no slower for few
        found[m] = result = _tune(task, m, manifest.arch, kernels, measure, measured, also)
        if result.row:
            also = ((result.row.kernel, result.row.slices),)
    return tuple(found[m] for m in task.rows)


def _tune(
    task: Task,
    m: int,
    arch: str,
    kernels: Sequence[Kernel],
    measure: Measure,
    measured: str,
    also: Sequence[tuple[str, int]],
) -> Result:
    start = time.perf_counter()
    problem = Problem(task.contract, m, task.n, task.k, task.k, task.n)
    nothing = Result(task.contract, m, task.n, task.k, 0.0)
    try:
        hints = [(kernel, slices) for rows, kernel, slices in task.hints if rows == m]
        tries, left_out = search(kernels, problem, arch, task.compute_units, measure, task.most, hints, also)
    except (PetitgenError, RuntimeLibraryError) as error:
        return replace(nothing, seconds=time.perf_counter() - start, error=str(error))
    best = tries[0]
    row = tuned.Row(
        arch, task.compute_units, task.contract, m, task.n, task.k, best.kernel, best.slices, best.us, measured
    )
    return replace(nothing, seconds=time.perf_counter() - start, row=row, tries=tuple(tries), left_out=tuple(left_out))


def on_model(task: Task) -> tuple[Result, ...]:
    """tune_weight on the timing model: for workers, needs nothing but the built kernels."""
    from petitgen.tune.model import Model

    return tune_weight(task, Model(task.directory, task.compute_units), "model")


def tune(
    tasks: Sequence[Task],
    call: Callable[[Task], tuple[Result, ...]] = on_model,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
) -> Iterator[tuple[Result, ...]]:
    """The results of each task as they come. jobs, executor: see petitgen.executors.each."""
    # The weights with most work first: none is left over at the end.
    order = sorted(tasks, key=lambda task: -len(task.rows) * task.n * task.k)
    for _, results in each(call, [(task,) for task in order], jobs=jobs, executor=executor):
        yield results


def merge(path: Path, rows: Sequence[tuned.Row]) -> None:
    """Put rows into a table, in place of those for the same problems, but for what was measured on something better: a
    device is better than the model, and that than the virtual GPU. TuneError if it cannot be read or written."""
    try:
        there = {row.problem: row for row in (tuned.read(path) if path.is_file() else [])}
        for row in rows:
            known = there.get(row.problem)
            if known is None or _WORTH[row.measured] >= _WORTH[known.measured]:
                there[row.problem] = row
        tuned.write(path, there.values())
    except (OSError, RuntimeLibraryError) as error:
        raise TuneError(f"{path}: the table cannot be brought up to date: {error}") from error


def missing(tasks: Sequence[Task], arch: str, path: Path) -> list[Task]:
    """What a table has no row for, or one with a kernel that may not be chosen. TuneError if it cannot be read."""
    known = {row.problem: row.kernel for row in _rows(path)}
    left = []
    for task in tasks:
        facts = arch, task.compute_units, task.contract
        some = tuple(m for m in task.rows if known.get((*facts, m, task.n, task.k)) not in task.kernels)
        if some:
            left.append(replace(task, rows=some))
    return left


def hinted(tasks: Sequence[Task], arch: str, path: Path) -> list[Task]:
    """The tasks with what a table has for the same sizes: of other contracts the same tile, of other devices of the
    architecture the same kernel. TuneError if it cannot be read."""
    known: dict[tuple[int, int], dict[tuple[int, str, int], None]] = {}
    for row in _rows(path):
        if row.arch == arch:
            known.setdefault((row.n, row.k), {})[row.m, row.kernel.partition("__")[2], row.slices] = None
    named = []
    for task in tasks:
        hints = [(m, f"{task.contract}__{tile}", slices) for m, tile, slices in known.get((task.n, task.k), ())]
        named.append(replace(task, hints=tuple(hint for hint in hints if hint[1] in task.kernels)))
    return named


def _rows(path: Path) -> list[tuned.Row]:
    try:
        return tuned.read(path) if path.is_file() else []
    except RuntimeLibraryError as error:
        raise TuneError(str(error)) from error


def contracts(manifest: Manifest, names: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The names of the kernels for each contract, of these contracts or all. TuneError for one there is none for."""
    found: dict[str, list[str]] = {}
    for kernel in (one for one in manifest.kernels.values() if one.op in GEMMS):
        found.setdefault(contract_of(kernel), []).append(kernel.name)
    for name in names:
        if name not in found:
            raise TuneError(
                f"no kernel for {name} is built for {manifest.arch}; there are some for {', '.join(sorted(found))}"
            )
    return {name: tuple(sorted(found[name])) for name in names or sorted(found)}
