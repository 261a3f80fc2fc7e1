"""Work handed to pools, to anybody's executor, and to a Dask cluster; and what is said when it cannot be."""

from __future__ import annotations

import math
import os
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner

from petitgen import executors
from petitgen.cli import main
from petitgen.errors import ExecutorError
from petitgen.executors import each
from petitgen.toolchain import CompileError

SQUARES = [(n * n,) for n in range(5)]


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_results_come_with_the_place_of_their_task(jobs: int):
    assert sorted(each(math.isqrt, SQUARES, jobs=jobs)) == list(enumerate(range(5)))
    assert list(each(math.isqrt, [], jobs=jobs)) == []


def test_one_job_stays_in_this_process_and_several_leave_it():
    assert {pid for _, pid in each(os.getpid, [()] * 3, jobs=1)} == {os.getpid()}
    assert os.getpid() not in {pid for _, pid in each(os.getpid, [()] * 3, jobs=2)}


def test_a_process_a_core_has_one_thread_of_blas_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    name = "OPENBLAS_NUM_THREADS"
    monkeypatch.delenv(name, raising=False)
    assert [value for _, value in each(os.getenv, [(name,), (name,)], jobs=2)] == ["1", "1"]
    assert name not in os.environ
    monkeypatch.setenv(name, "3")
    assert [value for _, value in each(os.getenv, [(name,), (name,)], jobs=2)] == ["3", "3"]


def test_an_executor_of_ones_own_is_used_and_left_running():
    with ThreadPoolExecutor(1, thread_name_prefix="mine") as mine:
        names = {name for _, name in each(_thread_name, [()] * 3, jobs=9, executor=mine)}
        assert names == {"mine_0"}
        assert mine.submit(math.isqrt, 9).result() == 3


def _thread_name() -> str:
    import threading

    return threading.current_thread().name


class Slow(Executor):
    """Runs the first task and never begins the others."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if not self.futures:
            try:
                future.set_result(call(*args, **kwargs))
            except ArithmeticError as error:
                future.set_exception(error)
        self.futures.append(future)
        return future


def test_after_an_error_nothing_more_is_begun():
    slow = Slow()
    with pytest.raises(ZeroDivisionError):
        list(each(divmod, [(1, 0), (1, 1), (1, 2)], executor=slow))
    assert [future.cancelled() for future in slow.futures] == [False, True, True]


def test_whoever_stops_listening_stops_the_work():
    slow = Slow()
    results = each(math.isqrt, SQUARES, executor=slow)
    assert next(results) == (0, 0)
    results.close()
    assert all(future.cancelled() for future in slow.futures[1:])


def test_a_worker_that_dies_is_one_clear_error():
    with pytest.raises(ExecutorError, match="a worker process died, out of memory perhaps; try --jobs 1"):
        list(each(os._exit, [(1,), (1,)], jobs=2))


def test_a_compilers_refusal_survives_the_way_back():
    error = pickle.loads(pickle.dumps(CompileError("name", "cc -c", "no")))
    assert (error.name, error.command, error.output) == ("name", "cc -c", "no")
    assert "name: the compiler failed" in str(error)


# ---- Dask -------------------------------------------------------------------------------------------
def test_dask_that_is_not_installed_or_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    with executors.dask(None) as nothing:
        assert nothing is None
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ExecutorError, match=r"pip install 'petitgen\[dask\]'"), executors.dask("tcp://127.0.0.1:1"):
        pass


def test_a_scheduler_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 1)
    silent = pytest.raises(ExecutorError, match=r"--dask tcp://127.0.0.1:1: no Dask scheduler answers")
    with silent, executors.dask("tcp://127.0.0.1:1"):
        pass


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One worker process."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_cluster_does_the_work(cluster: Any):
    with executors.dask(cluster.scheduler_address) as executor:
        assert sorted(each(math.isqrt, SQUARES, executor=executor)) == list(enumerate(range(5)))
        ((_, pid),) = each(os.getpid, [()], executor=executor)
        assert pid != os.getpid()


@pytest.mark.slow
@pytest.mark.compiler
def test_kernels_are_built_verified_and_tuned_on_a_cluster(cluster: Any, tmp_path: Any):
    place = ["--generated", str(tmp_path / "generated"), "--dask", cluster.scheduler_address]
    names = "gemm_nvfp4_bf16__gfx942_m16n64*"
    built = CliRunner().invoke(main, ["build", *place, "--cache", str(tmp_path / "cache"), names])
    assert built.exit_code == 0, built.output
    assert "1 kernels" in built.output
    assert "1 compiled" in built.output
    verified = CliRunner().invoke(main, ["verify", *place, "--shape", "3,20,160", names])
    assert verified.exit_code == 0, verified.output
    assert "1 of 1 kernels verified" in verified.output
    table = tmp_path / "gfx942.csv"
    problem = ["--arch", "gfx942", "--shapes", "64,256", "-m", "1,3", "-o", str(table)]
    tuned = CliRunner().invoke(main, ["tune", *place, *problem])
    assert tuned.exit_code == 0, tuned.output
    assert "2 of 2 problems tuned" in tuned.output
    assert table.read_text().count("_m16n64") == 2


@pytest.mark.slow
@pytest.mark.compiler
def test_a_cluster_builds_the_same_bytes(cluster: Any, tmp_path: Any):
    here = ["build", "-q", "gemm_nvfp4_bf16__gfx942_m16n64*"]
    for folder, more in (("here", []), ("there", ["--dask", cluster.scheduler_address])):
        place = ["--generated", str(tmp_path / folder), "--cache", str(tmp_path / f"{folder}-cache")]
        done = CliRunner().invoke(main, [*here, *place, *more])
        assert done.exit_code == 0, done.output
    files = [sorted(path.name for path in (tmp_path / folder / "gfx942").iterdir()) for folder in ("here", "there")]
    assert files[0] == files[1]
    for name in (name for name in files[0] if name.endswith((".hsaco", ".json"))):
        assert (tmp_path / "here/gfx942" / name).read_bytes() == (tmp_path / "there/gfx942" / name).read_bytes()
