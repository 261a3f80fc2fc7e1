"""The virtual GPU as a process among processes: forks, spawns, threads, deaths, many launches, and how it is put in place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from petitgen.driver import child_environment, library
from petitgen.driver.build import LINKS

from .harness import ROOT, kernel_file

pytestmark = pytest.mark.compiler

PRELUDE = """
import ctypes, os, sys, threading, time
import numpy as np
from petitgen import driver
from petitgen.driver import control
from tests.driver.harness import Hip, Dim3
hip = Hip(driver.activate())
def value(stream=0): return ctypes.c_void_p(stream)
def prepare(name="add"):
    module = hip.module()
    return hip.function(module, name), hip.upload(np.zeros(64, np.int32))
def add(function, at, n=1):
    return hip.launch(function, 1, ctypes.c_void_p(at), ctypes.c_int(n), ctypes.c_uint(64))
def read(at): return hip.download(at, np.zeros(64, np.int32))
"""


def program(body: str) -> list[str]:
    return [sys.executable, "-c", PRELUDE + textwrap.dedent(body)]


def run(body: str, timeout: float = 60, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        program(body), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == status, done.stderr
    return done


def workers_of(pid: int) -> list[int]:
    """Process ids of the emulator processes that `pid` started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and b"petitgen.driver.worker" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


# --- fork and spawn ----------------------------------------------------------------------------------------


def test_a_child_forked_after_hip_was_used_gets_an_error_that_says_so() -> None:
    done = run("""
        add_, at = prepare()
        assert add(add_, at) == 0
        child = os.fork()
        if not child:
            codes = {hip.hipDeviceSynchronize(), hip.hipMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(4)), add(add_, at)}
            os._exit(0 if codes == {3} else 1)  # hipErrorNotInitialized
        assert os.waitpid(child, 0)[1] == 0
        assert add(add_, at) == 0  # the parent goes on
        assert (read(at) == 2).all()
    """)
    assert "spawn" in done.stderr


def test_a_child_forked_before_hip_was_used_has_a_gpu_of_its_own() -> None:
    run("""
        child = os.fork()
        add_, at = prepare()
        for _ in range(1 if child else 2):
            assert add(add_, at) == 0
        assert (read(at) == (1 if child else 2)).all()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """)


def test_spawned_processes_have_gpus_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        PRELUDE.replace(
            "hip = Hip(driver.activate())", "hip = Hip(driver.activate()) if __name__ != '__main__' else None"
        )
        + textwrap.dedent("""
        import multiprocessing
        def work(n):
            add_, at = prepare()
            assert add(add_, at, n) == 0
            return int(read(at)[5])
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                assert pool.map(work, [3, 4, 5]) == [3, 4, 5]
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, str(tmp_path / "app.py")], env=environment, check=True, timeout=120)


# --- threads and numbers --------------------------------------------------------------------------------------


def test_eight_threads_load_and_launch_at_once() -> None:
    run("""
        failures = []
        def work(number):
            try:
                stream = hip.value("hipStreamCreate")
                for turn in range(5):
                    module = hip.module()
                    function = hip.function(module, "add")
                    at = hip.upload(np.zeros(64, np.int32))
                    for n in range(4):
                        assert hip.launch(function, 1, ctypes.c_void_p(at), ctypes.c_int(number), ctypes.c_uint(64), stream=stream) == 0
                    assert (read(at) == 4 * number).all()
                    hip.ok("hipFree", at)
                    hip.ok("hipModuleUnload", module)
                hip.ok("hipStreamDestroy", stream)
            except BaseException as error:
                failures.append(error)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert not failures, failures
        assert not any(control.live().values()), control.live()
    """)


GROWTH = """
    def resident(pid):
        with open(f"/proc/{pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1])
    def measure():
        from tests.driver.test_processes import workers_of
        pids = [os.getpid(), *workers_of(os.getpid())]
        return [resident(pid) for pid in pids], [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids], control.live()
    add_, at = prepare()
    arguments = (ctypes.c_void_p(at), ctypes.c_int(1), ctypes.c_uint(64))
    def launches(count):
        for n in range(count):
            assert hip.launch(add_, 1, *arguments) == 0
            if n % 10 == 0:
                event, stream, more = hip.value("hipEventCreate"), hip.value("hipStreamCreate"), hip.malloc(4096)
                for call, handle in (("hipEventDestroy", event), ("hipStreamDestroy", stream), ("hipFree", more)): hip.ok(call, handle)
    launches(1500)
    memory, files, live = measure()
    launches(COUNT)
    memory_after, files_after, live_after = measure()
    assert files_after == files
    assert live_after == live
    assert all(after - before < 2048 for before, after in zip(memory, memory_after)), (memory, memory_after)  # KiB
"""


@pytest.mark.slow
def test_ten_thousand_launches_leave_nothing_behind() -> None:
    run(GROWTH.replace("COUNT", "10000") + "    assert (read(at) == 11500).all()\n", timeout=300)


def test_ten_thousand_launches_that_run_nothing_leave_nothing_behind() -> None:
    run(GROWTH.replace("COUNT", "10000") + "    assert not read(at).any()\n", PETITGEN_VIRTUAL_NOOP="1")


def test_the_noop_mode_starts_no_process() -> None:
    run(
        """
        from tests.driver.test_processes import workers_of
        function, at = prepare("any name will do")
        assert add(function, at) == 0
        assert hip.launch(function, 0, ctypes.c_void_p(at)) == 1
        assert not workers_of(os.getpid())
    """,
        PETITGEN_VIRTUAL_NOOP="1",
    )


def test_peers_and_memory_from_before_the_emulator_started_count() -> None:
    run(
        """
        hip.ok("hipSetDevice", 1)
        theirs = hip.upload(np.zeros(64, np.int32))
        hip.ok("hipSetDevice", 0)
        hip.ok("hipDeviceEnablePeerAccess", 1, 0)
        add_, at = prepare()  # the first module starts the emulator
        assert add(add_, theirs, 4) == 0
        assert (read(theirs) == 4).all()
    """,
        PETITGEN_VIRTUAL_DEVICES="gfx942,gfx942",
    )


# --- deaths ------------------------------------------------------------------------------------------------------


def test_the_client_survives_the_emulator() -> None:
    done = run("""
        import signal
        from tests.driver.test_processes import workers_of
        add_, at = prepare()
        assert add(add_, at) == 0
        (worker,) = workers_of(os.getpid())
        os.kill(worker, signal.SIGKILL)
        assert add(add_, at) == 719
        assert hip.hipDeviceSynchronize() == 719
        hip.ok("hipDeviceReset")
        assert not workers_of(os.getpid())
        add_, at = prepare()  # a new one
        assert add(add_, at, 6) == 0
        assert (read(at) == 6).all()
    """)
    assert "killed by signal 9" in done.stderr


def test_a_kernel_that_never_ends_dies_with_its_client() -> None:
    body = """
        function, at = prepare("endless")
        print("ready", flush=True)
        hip.launch(function, 1, ctypes.c_void_p(at))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    client = subprocess.Popen(program(body), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        (worker,) = workers_of(client.pid)
        time.sleep(0.5)  # into the kernel
        assert alive(worker)
    finally:
        client.kill()
        client.wait()
    assert wait_until(lambda: not alive(worker))


def test_ctrl_c_ends_a_kernel_and_nothing_else() -> None:
    body = """
        import signal
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        function, at = prepare("endless")
        print("ready", flush=True)
        assert hip.launch(function, 1, ctypes.c_void_p(at)) == 719
        assert "interrupted" in control.story()
        hip.ok("hipDeviceReset")
        add_, at = prepare()
        assert add(add_, at) == 0
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    client = subprocess.Popen(
        program(body), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"
    time.sleep(0.7)
    os.killpg(client.pid, signal.SIGINT)
    assert client.wait(30) == 0


def test_a_limit_on_instructions() -> None:
    done = run(
        """
        function, at = prepare("endless")
        assert hip.launch(function, 1, ctypes.c_void_p(at)) == 719
    """,
        PETITGEN_VIRTUAL_LIMIT="5000",
    )
    assert "endless" in done.stderr


def test_an_emulator_that_cannot_start_is_an_error() -> None:
    body = """
        os.environ["PETITGEN_VIRTUAL_PYTHON"] = sys.argv[1] if len(sys.argv) > 1 else "/nonexistent/python"
        assert hip.hipModuleLoad(ctypes.byref(ctypes.c_void_p()), os.environ["KERNEL"].encode()) == 3
        hip.malloc(64)
    """
    done = run(body, KERNEL=kernel_file("gfx942"))
    assert "PETITGEN_VIRTUAL_PYTHON" in done.stderr


# --- the environment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DEVICES", "gfx942,gfx1100"),
        ("DEVICES", ","),
        ("MEMORY", "lots"),
        ("MEMORY", "-1"),
        ("MEMORY", "8GiB"),
        ("MEMORY", "nan"),
        ("LIMIT", "abc"),
        ("LIMIT", "0"),
        ("LIMIT", "-1"),
        ("LIMIT", "1e6"),
        ("LIMIT", "9" * 20),
    ],
)
def test_a_wrong_environment_is_named(name: str, text: str) -> None:
    done = run("assert hip.hipInit(0) == 100", **{f"PETITGEN_VIRTUAL_{name}": text})
    assert f"PETITGEN_VIRTUAL_{name}: '" in done.stderr


def test_devices_and_memory_from_the_environment() -> None:
    run(
        """
        assert hip.value("hipGetDeviceCount", kind=ctypes.c_int) == 3
        assert hip.value("hipDeviceTotalMem", 2, kind=ctypes.c_size_t) == 1536 << 20
        assert hip.value("hipDeviceGetAttribute", 63, 1, kind=ctypes.c_int) == 110
    """,
        PETITGEN_VIRTUAL_DEVICES="gfx942,gfx90a,gfx942",
        PETITGEN_VIRTUAL_MEMORY="1.5G",
    )


def test_the_sanitizer_watches_launches() -> None:
    body = """
        function, at = prepare("race")
        code = hip.launch(function, 1, ctypes.c_void_p(hip.malloc(1024)), block=128)
        assert code == (719 if os.environ.get("PETITGEN_VIRTUAL_SANITIZE") else 0), code
    """
    run(body)
    done = run(body, PETITGEN_VIRTUAL_SANITIZE="1")
    assert "race" in done.stderr
    assert "pc 0x" in done.stderr or "0x" in done.stderr


def test_a_launch_that_faults_still_says_what_the_sanitizer_found() -> None:
    body = """
        function, at = prepare("undefined_then_fault")
        assert hip.launch(function, 1, ctypes.c_void_p(hip.malloc(256))) == 719
    """
    done = run(body, PETITGEN_VIRTUAL_SANITIZE="1")
    assert "outside every allocation" in done.stderr
    assert "the sanitizer found until then\n  undefined: undefined_then_fault+0x" in done.stderr
    assert "the sanitizer found" not in run(body).stderr


def test_the_log_can_be_a_file(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    done = run("hip.hipModuleLoad(ctypes.byref(ctypes.c_void_p()), b'/nonexistent')", PETITGEN_VIRTUAL_LOG=str(log))
    assert not done.stderr
    assert "/nonexistent" in log.read_text()


def test_the_library_is_compiled_once_by_however_many_processes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    environment["ZIG_GLOBAL_CACHE_DIR"] = environment["ZIG_LOCAL_CACHE_DIR"] = str(library().parent.parent / "zig")
    command = [sys.executable, "-c", "from petitgen.driver import library; print(library())"]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert len(printed) == 1
    home = Path(printed.pop()).parent
    assert sorted(path.name for path in home.iterdir()) == ["libamdhip64.so", *LINKS]
    assert [path for path in home.parent.iterdir() if path.name.startswith(".virtual")] == []


def test_another_hip_runtime_in_the_process_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "libamdhip64.so.6"
    other.write_bytes(library().read_bytes())
    body = f"""
import ctypes
ctypes.CDLL({str(other)!r})
from petitgen import driver
try:
    driver.activate()
except driver.DriverError as error:
    assert {str(other)!r} in str(error)
else:
    raise SystemExit("accepted")
"""
    subprocess.run([sys.executable, "-c", body], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=60)


def test_a_program_started_by_petitgen_virtual_has_the_library() -> None:
    body = "from petitgen.driver import is_active, mapped; import ctypes; ctypes.CDLL('libamdhip64.so.6'); assert is_active(), mapped()"
    command = [sys.executable, "-m", "petitgen.cli", "virtual", "--device", "gfx90a", "--", sys.executable, "-c", body]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True, timeout=60)
    assert child_environment(["gfx90a"], "1G")["PETITGEN_VIRTUAL_DEVICES"] == "gfx90a"
