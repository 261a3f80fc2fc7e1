"""Many independent calls: in this process, in a pool of processes, or on any executor of concurrent.futures."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from petitgen.errors import ExecutorError

Result = TypeVar("Result")
CONNECT_SECONDS = 30


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def each(
    call: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
) -> Iterator[tuple[int, Result]]:
    """(index, call(*tasks[index])) as they come. The call, its arguments and results have to pickle.

    jobs      processes of a pool made for this; None: one a core; 1: this process, one after the other
    executor  used in place of a pool, and left running: another pool, Dask's Client.get_executor(), ... Its workers
              need petitgen and the files that tasks name
    What a call raises is raised here, and what has not begun by then is cancelled. ExecutorError when a worker dies.
    """
    jobs = min(jobs or cores(), len(tasks))
    if executor is not None:
        yield from _submit(executor, call, tasks)
    elif jobs <= 1:
        yield from ((index, call(*task)) for index, task in enumerate(tasks))
    else:
        with (
            _single_threaded_blas(),
            ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool,
        ):
            yield from _submit(pool, call, tasks)


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Processes started meanwhile use one thread for numpy's products: the pool has a process a core already, and
    OpenBLAS's threads spin while they wait for each other."""
    missing = [name for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _submit(
    executor: Executor, call: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[int, Result]]:
    futures = {executor.submit(call, *task): index for index, task in enumerate(tasks)}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenExecutor as error:
        raise ExecutorError("a worker process died, out of memory perhaps; try --jobs 1") from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def dask(address: str | None) -> Iterator[Executor | None]:
    """The executor of the Dask cluster whose scheduler is at `address` (tcp://host:port); None for no address.

    ExecutorError without the package, or without an answer.
    """
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ExecutorError(f"--dask needs the package distributed ({error}): pip install 'petitgen[dask]'") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise ExecutorError(f"--dask {address}: no Dask scheduler answers there ({error})") from error
    with client:
        if not client.scheduler_info().get("workers"):
            raise ExecutorError(
                f"--dask {address}: its scheduler has no workers yet: start some with: dask worker {address}"
            )
        yield client.get_executor()
