"""Threads, many launches, failing drivers, forks, faults: the library stays usable and nothing leaks."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from runtime.discover import present_archs
from runtime.errors import CodeObjectError
from tests.runtime.problems import case

pytestmark = pytest.mark.compiler

Python = Callable[..., "subprocess.CompletedProcess[str]"]

HEAD = """
import ctypes, gc, os, sys
import numpy as np
import runtime
from runtime.errors import *

kernels, arch, device = *sys.argv[1:3], *sys.argv[3:], *["virtual"][len(sys.argv) > 3:]
def weight(n, k):  # codes of 1.0, scales of 1.0: every weight is 1
    return runtime.pack("nvfp4", np.full((n, k // 2), 0x22, np.uint8), np.full((n, k // 16), 0x38, np.uint8), 1.0)
"""


@pytest.fixture(params=["virtual", pytest.param("hip", marks=pytest.mark.gpu)])
def where(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What a script is told: an architecture and a device that has it."""
    if request.param == "virtual":
        return "gfx942", "virtual"
    there = present_archs() & {"gfx942", "gfx90a"}
    return (min(there) if there else pytest.skip("no gfx942 or gfx90a here")), "hip"


def test_eight_threads_load_and_launch(load, arch):
    cases = [case(1 + 9 * i, 33, 144, ("bf16", "fp16")[i % 2]) for i in range(8)]
    shared = case(5, 48, 64)
    start = Barrier(8)

    def work(i: int) -> None:
        start.wait()
        with load(arch) as lib:
            for _ in range(3):
                cases[i].check(lib, lib.gemm(cases[i].x, cases[i].weight))
                shared.check(lib, lib.numpy(lib.gemm(lib.array(shared.x), shared.weight)))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, i) for i in range(8)]:
            done.result()


def test_threads_share_one_plan(lib):
    """Every launch writes its own addresses into the kernarg: none may see another's."""
    one = case(4, 64, 128)
    plan = lib.plan(one.weight, 4)
    inputs = [np.roll(one.x, shift, axis=0) for shift in range(4)]
    wanted = [lib.gemm(x, one.weight).view(np.uint16) for x in inputs]

    def work(i: int) -> None:
        x, out = lib.array(inputs[i % 4]), lib.empty((4, 64), "bf16")
        for _ in range(5):
            plan(x, out)
        assert np.array_equal(lib.numpy(out).view(np.uint16), wanted[i % 4])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_ten_thousand_launches_leave_nothing_behind(python: Python, built):
    """With a driver that accepts launches and does nothing, so that only the runtime can leak."""
    script = (
        HEAD
        + """
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

lib = runtime.load(arch, "virtual", kernels)
live = ctypes.CDLL(str(lib.hip.library)).petitgen_virtual_live
w = weight(64, 128).to(lib)
x, out = lib.empty((4, 128), "bf16"), lib.empty((4, 64), "bf16")
plan = lib.plan(w, 4)
def launches(count):
    for i in range(count):
        lib.gemm(x, w, out=out)
        lib.gemm(x, w)
        plan(x, out, stream=i % 3)
launches(1000)
gc.collect()
before = rss(), live(b"allocations"), live(b"modules"), len(os.listdir("/proc/self/fd"))
launches(10_000)
gc.collect()
after = rss(), live(b"allocations"), live(b"modules"), len(os.listdir("/proc/self/fd"))
assert after[1:] == before[1:], (before, after)
assert after[0] - before[0] < 1 << 20, (before, after)
"""
    )
    python(script, built, "gfx942", PETITGEN_VIRTUAL_NOOP=1)


def test_hundreds_of_launches_that_compute_leave_nothing_in_either_process(python: Python, built):
    """The emulator's process, too: its memory and files after 500 launches are what they were after the first 100."""
    script = (
        HEAD
        + """
def children():
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(entry))
    return sorted(found)

def state(pid):
    pages = int(open(f"/proc/{pid}/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))

lib = runtime.load(arch, "virtual", kernels)
w = weight(48, 64)
x, out = lib.array(np.ones((4, 64), np.float16)), lib.empty((4, 48), "fp16")
host = np.ones((4, 64), np.float16)
def launches(count):
    for _ in range(count):
        lib.gemm(x, w, out=out)
        assert (lib.gemm(host, w) == 64).all()
launches(50)
workers = children()
assert workers, "no emulator process found"
before = {pid: state(pid) for pid in [os.getpid(), *workers]}
launches(200)
assert children() == workers
for pid, (memory, files) in before.items():
    memory_now, files_now = state(pid)
    assert files_now == files, (pid, files, files_now)
    assert memory_now - memory < 8 << 20, (pid, memory, memory_now)
assert (lib.numpy(out) == 64).all()
"""
    )
    python(script, built, "gfx942")


def test_the_driver_fails_at_every_call_in_turn(python: Python, built):
    """Each failure comes out as a runtime error; then everything works, and nothing more is alive than before."""
    script = (
        HEAD
        + """
def everything():
    with runtime.load(arch, "virtual", kernels) as lib:
        w = weight(16, 32)
        x = np.full((2, 32), 0.5, np.float16)
        assert (lib.gemm(x, w) == 16).all()
        out = lib.gemm(lib.array(x, pitch=40), w.to(lib, activations="fp16"))
        assert (lib.numpy(out) == 16).all()
        plan = lib.plan(w, 2, "fp16")
        lib.synchronize()
        assert (lib.numpy(plan(lib.array(x), out)) == 16).all()

everything()
gc.collect()
driver = ctypes.CDLL(str(runtime.load(arch, "virtual", kernels).hip.library))
gc.collect()
alive = lambda: [driver.petitgen_virtual_live(what) for what in (b"allocations", b"modules", b"streams")]
before = alive()
driver.petitgen_virtual_fail(b"")
everything()
calls = driver.petitgen_virtual_calls(None)
assert calls > 20
raised = 0
for call in range(1, calls + 1):
    driver.petitgen_virtual_fail(b"*:%d" % call)
    try:
        everything()
    except RuntimeLibraryError as error:
        raised += 1
        assert "hipErrorUnknown" in str(error), error
    driver.petitgen_virtual_fail(b"")
    gc.collect()
    assert alive() == before, (call, before, alive())
    everything()
    gc.collect()
    assert alive() == before, (call, before, alive())
print(raised, calls)
"""
    )
    done = python(script, built, "gfx942", PETITGEN_VIRTUAL_DEVICES="gfx90a,gfx942")
    raised, calls = map(int, done.stdout.split())
    assert raised > calls / 3, (raised, calls)  # the others gave something back, which has nobody to tell


def test_memory_that_is_not_there_is_said(python: Python, built, where):
    script = (
        HEAD
        + """
lib = runtime.load(arch, device, kernels)
try:
    lib.empty((1 << 23, 1 << 23), "bf16")
except MemoryError as error:
    assert isinstance(error, DeviceMemoryError) and "asking for 140737488355328 bytes" in str(error), error
else:
    raise SystemExit("no error")
lib.empty((16, 16), "bf16")
"""
    )
    python(script, built, *where, PETITGEN_VIRTUAL_MEMORY="64M")


def test_the_error_of_a_kernel_comes_with_its_name(python: Python, built):
    """x lies where no memory is: the kernel faults, and whichever call says so names it."""
    script = (
        HEAD
        + """
lib = runtime.load(arch, "virtual", kernels)
w = weight(16, 32)
out = lib.empty((2, 16), "bf16")
x = runtime.DeviceArray(out.address + (1 << 30), (2, 32), "bf16")
name = lib.select("gemm_nvfp4_bf16", 2, 16, 32).kernel.name
try:
    lib.gemm(x, w, out=out)
    lib.synchronize()
except HipError as error:
    assert error.code in ("hipErrorLaunchFailure", "hipErrorIllegalAddress"), error
    assert name in str(error), error
else:
    raise SystemExit("no error")
try:
    lib.numpy(out)
except HipError as error:
    print(error)
else:
    raise SystemExit("a device that has failed says nothing")
"""
    )
    python(script, built, "gfx942")


def test_a_process_that_was_forked_is_told_and_a_spawned_one_works(python: Python, built, where):
    script = (
        HEAD
        + """
import multiprocessing

def gemm():
    with runtime.load(arch, device, kernels) as lib:
        assert (lib.gemm(np.ones((2, 32), np.float16), weight(16, 32)) == 32).all()

if __name__ == "__main__":
    lib = runtime.load(arch, device, kernels)
    w, x = weight(16, 32).to(lib, activations="fp16"), lib.array(np.ones((2, 32), np.float16))
    lib.gemm(x, w)
    child = os.fork()
    if child == 0:
        for attempt in (lambda: lib.gemm(x, w), gemm):
            try:
                attempt()
            except ClosedError as error:
                assert "spawn" in str(error), error
            else:
                os._exit(1)
        del lib, w, x
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    spawned = multiprocessing.get_context("spawn").Process(target=gemm)
    spawned.start()
    spawned.join()
    assert spawned.exitcode == 0
    assert (lib.numpy(lib.gemm(x, w)) == 32).all()
"""
    )
    python(script, built, *where)


def test_a_child_may_load_when_its_parent_has_not(python: Python, built, where):
    script = (
        HEAD
        + """
child = os.fork()
if child == 0:
    with runtime.load(arch, device, kernels) as lib:
        right = (lib.gemm(np.ones((2, 32), np.float16), weight(16, 32)) == 32).all()
    os._exit(0 if right else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    )
    python(script, built, *where)


def test_two_devices_of_one_architecture(python: Python, built):
    script = (
        HEAD
        + """
lib = runtime.load(arch, "virtual", kernels)
assert lib.devices == (1, 2), lib
w = weight(16, 32)
x = np.ones((2, 32), np.float16)
for device in lib.devices:
    there = lib.array(x, device=device)
    y = lib.gemm(there, w)
    assert y.device == device and (lib.numpy(y) == 32).all()
    assert lib.hip.current_device() == 0
    plan = lib.plan(w, 2, "fp16", device=device)
    plan(there, y)
try:
    lib.gemm(lib.array(x, device=1), w.to(lib, 2, "fp16"))
except OperandError as error:
    assert "x is on device 1, the weight on device 2" in str(error)
else:
    raise SystemExit("no error")
try:
    lib.empty((2, 2), "bf16", device=0)
except OperandError as error:
    assert "device 0 is none of this library's (gfx942): [1, 2]" in str(error)
else:
    raise SystemExit("no error")
"""
    )
    python(script, built, "gfx942", PETITGEN_VIRTUAL_DEVICES="gfx90a,gfx942,gfx942")


def test_damaged_code_objects_are_found_when_they_are_needed(load, arch, built, tmp_path):
    one = case(4, 64, 128)
    folder = tmp_path / arch
    folder.mkdir()
    for file in (built / arch).iterdir():
        data = file.read_bytes()
        (folder / file.name).write_bytes(data[:-8] if file.suffix == ".hsaco" else data)
    with load(arch, tmp_path) as lib:
        for _ in range(2):
            with pytest.raises(CodeObjectError, match="the manifest says"):
                lib.gemm(one.x, one.weight)
        for file in folder.glob("*.hsaco"):
            file.write_bytes((built / arch / file.name).read_bytes())
        one.check(lib, lib.gemm(one.x, one.weight))


def test_a_library_that_nobody_has_any_more_unloads_its_code_objects(load, arch, alive):
    gc.collect()
    before = alive("modules")
    lib: Any = load(arch)
    lib.plan(case(4, 64, 128).weight, 4)
    assert alive("modules") == before + 1
    del lib
    gc.collect()
    assert alive("modules") == before
