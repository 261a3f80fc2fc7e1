"""runtime.load: which HIP, which devices, and what is said when something is missing. In processes of their own."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import discover
from runtime.errors import KernelsNotFoundError, OperandError
from tests.driver.test_hip_python import RELEASES, environment_with
from tests.runtime.conftest import ROOT
from tests.runtime.manifests import kernel, write

Python = Callable[..., "subprocess.CompletedProcess[str]"]

needs_compiler = pytest.mark.compiler
needs_rocm_without_gpu = pytest.mark.skipif(
    Path("/dev/kfd").exists() or ctypes.util.find_library("amdhip64") is None,
    reason="needs a libamdhip64 without a GPU (apt install libamdhip64-5)",
)

GEMM = """
import sys, warnings
import numpy as np
import runtime

def gemm(lib):
    w = runtime.pack("nvfp4", np.full((16, 16), 0x22, np.uint8), np.full((16, 2), 0x38, np.uint8), 1.0)
    assert (lib.gemm(np.ones((2, 32), np.float16), w) == 32).all()
"""


def test_importing_the_runtime_is_cheap(python: Python) -> None:
    done = python("import sys, runtime; print(*sorted({n.split('.')[0] for n in sys.modules}))")
    assert not {"numpy", "torch", "hip", "rocm", "petitgen"} & set(done.stdout.split())


@needs_compiler
def test_torch_is_optional(python: Python, built: Path) -> None:
    script = "import sys\nsys.modules['torch'] = None\n" + GEMM + "gemm(runtime.load('gfx942', 'virtual', sys.argv[1]))"
    python(script, built)


def test_without_hip_python_the_way_to_get_it_is_said(python: Python, tmp_path: Path) -> None:
    write(tmp_path / "gfx942", kernel(16, 16))
    script = """
import sys
sys.modules["hip"] = None
import runtime
from runtime.errors import HipLibraryError
try:
    runtime.load("gfx942", "hip", sys.argv[1])
except HipLibraryError as error:
    assert "pip install hip-python" in str(error), error
else:
    raise SystemExit("no error")
"""
    python(script, tmp_path)


@needs_rocm_without_gpu
def test_no_gpu_is_said_in_under_a_second(python: Python, tmp_path: Path) -> None:
    """With Debian's libamdhip64, which is there without a device. Of processor time: other work may be going on."""
    pytest.importorskip("hip")
    write(tmp_path / "gfx942", kernel(16, 16))
    script = """
import sys, time
import runtime
from runtime.errors import HipLibraryError, NoDeviceError
start = time.process_time()
try:
    runtime.load("gfx942", "hip", sys.argv[1])
except NoDeviceError as error:
    print(error)
print(time.process_time() - start)
try:
    runtime.load("gfx942", "virtual", sys.argv[1])
except HipLibraryError as error:
    print(error)
"""
    message, seconds, second = python(script, tmp_path).stdout.splitlines()
    assert "HIP finds no GPU" in message
    assert "libamdhip64.so" in message
    assert "device='virtual'" in message
    assert float(seconds) < 1
    assert "another HIP runtime is already in this process" in second
    assert "mapped when runtime.load looked for a real GPU" in second
    assert "a new process that asks for device='virtual' at once gets it" in second


def test_a_virtual_gpu_that_cannot_be_had_says_why(python: Python, tmp_path: Path) -> None:
    """The driver's own words, not the advice to use the virtual GPU."""
    pytest.importorskip("hip")
    write(tmp_path / "gfx942", kernel(16, 16))
    script = """
import sys
import runtime
from runtime.errors import RuntimeLibraryError
try:
    runtime.load("gfx942", "virtual", sys.argv[1])
except RuntimeLibraryError as error:
    print(error)
"""
    said = python(script, tmp_path, PETITGEN_VIRTUAL_DEVICES="gfx1100").stdout
    assert "gfx1100" in said
    assert "gfx942 and gfx90a" in said
    assert "a new process" not in said


@needs_compiler
@pytest.mark.skipif(Path("/dev/kfd").exists(), reason="there is a GPU")
def test_auto_takes_the_virtual_gpu_and_says_so_once(python: Python, built: Path) -> None:
    script = (
        GEMM
        + """
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for _ in range(2):
        lib = runtime.load("gfx942", directory=sys.argv[1])
    runtime.load("gfx90a", directory=sys.argv[1])
assert lib.virtual
gemm(lib)
(one,) = said
assert one.category.__name__ == "VirtualDeviceWarning" and "no gfx942 GPU here" in str(one.message), one
assert one.filename == __file__
with warnings.catch_warnings():
    warnings.simplefilter("error")
    gemm(runtime.load("gfx942", "virtual", sys.argv[1]))
"""
    )
    python(script, built)


@needs_compiler
def test_the_architecture_of_the_current_device_is_the_default(python: Python, built: Path) -> None:
    script = (
        GEMM
        + """
lib = runtime.load(device="virtual", directory=sys.argv[1])
assert (lib.arch, lib.device, lib.devices) == ("gfx90a", 0, (0,)), lib
gemm(lib)
"""
    )
    python(script, built, PETITGEN_VIRTUAL_DEVICES="gfx90a,gfx942")


@needs_compiler
def test_an_architecture_that_no_device_has(python: Python, built: Path) -> None:
    script = (
        GEMM
        + """
try:
    runtime.load("gfx942", "virtual", sys.argv[1])
except runtime.errors.ArchError as error:
    assert "no gfx942 among the devices" in str(error) and "0: gfx90a:sramecc+:xnack-" in str(error), error
else:
    raise SystemExit("no error")
"""
    )
    python(script, built, PETITGEN_VIRTUAL_DEVICES="gfx90a")


@needs_compiler
def test_an_unmodified_program_runs_on_the_virtual_gpu(python: Python, built: Path) -> None:
    from petitgen.driver import child_environment

    environment = child_environment(["gfx942"], None, {})
    script = (
        GEMM
        + """
lib = runtime.load("gfx942", "hip", sys.argv[1])
assert lib.virtual
gemm(lib)
"""
    )
    python(script, built, **environment)


# ---- the library that is mapped ---------------------------------------------------------------------
STUB = """
int hipGetDeviceCount(int *n) { *n = DEVICES; return 0; }
int hipGetLastError(void) { return 0; }
int hipModuleLaunchKernel(void) { return 0; }
"""


STEERED = """
import ctypes, sys
from runtime import hip
ctypes.CDLL(sys.argv[1])
bound = hip.bind()
assert bound.device_count == 3, bound.device_count
assert [str(p) for p in hip.mapped_libraries()] == sys.argv[1:2]
"""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two libraries that pass for HIP: one as torch might bring it, with a versioned SONAME, and one on the path."""
    pytest.importorskip("hip")
    made = []
    for devices, folder, soname in ((3, "torch", "libamdhip64.so.6"), (5, "rocm", "libamdhip64.so")):
        home = tmp_path_factory.mktemp(folder)
        (home / "stub.c").write_text(STUB)
        command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", f"-DDEVICES={devices}", "stub.c"]
        subprocess.run([*command, f"-Wl,-soname,{soname}", "-o", "libamdhip64.so"], cwd=home, check=True)
        made.append(home / "libamdhip64.so")
    return made[0], made[1]


@needs_compiler
def test_the_library_that_torch_has_mapped_is_the_one_used(python: Python, stubs: tuple[Path, Path]) -> None:
    torchs, rocms = stubs
    python(STEERED, torchs, LD_LIBRARY_PATH=rocms.parent)


@needs_compiler
def test_two_mapped_libraries_are_refused(python: Python, stubs: tuple[Path, Path]) -> None:
    script = """
import ctypes, sys
from runtime import hip
from runtime.errors import HipLibraryError
for name in sys.argv[1:]:
    ctypes.CDLL(name)
try:
    hip.bind()
except HipLibraryError as error:
    assert "2 HIP runtimes are mapped" in str(error) and all(name in str(error) for name in sys.argv[1:]), error
else:
    raise SystemExit("no error")
"""
    python(script, *stubs)


def test_the_kernel_driver_names_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions as amdkfd has them: major, minor, stepping in decimal digits."""
    for node, version in enumerate((0, 90402, 90010)):
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "properties").write_text(f"cpu_cores_count 0\ngfx_target_version {version}\n")
    monkeypatch.setattr(discover, "_KFD_NODES", tmp_path)
    assert discover.present_archs() == {"gfx942", "gfx90a"}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_either_hip_python(release: str, python: Python, built: Path, stubs: tuple[Path, Path]) -> None:
    """In an environment that has that release and numpy; what else is needed comes from this one."""
    torchs, rocms = stubs
    more = f"import sys\nsys.path += {[str(ROOT), sysconfig.get_path('purelib')]!r}\n"
    virtual = (
        more
        + GEMM
        + """
import os
lib = runtime.load("gfx942", "virtual", sys.argv[1])
os.environ["PETITGEN_VIRTUAL_PYTHON"] = sys.argv[2]
gemm(lib)
from importlib.metadata import version
print(version("hip-python"))
"""
    )
    executable = environment_with(release)
    assert python(virtual, built, sys.executable, executable=executable).stdout == f"{release}\n"
    python(more + STEERED, torchs, executable=executable, LD_LIBRARY_PATH=rocms.parent)


# ---- arguments --------------------------------------------------------------------------------------
def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    import runtime

    with pytest.raises(OperandError, match="device 'cuda': one of auto, hip, virtual is meant"):
        runtime.load("gfx942", device="cuda")
    with pytest.raises(OperandError, match="arch is 5: a name is needed"):
        runtime.load(5)  # type: ignore[arg-type]
    with pytest.raises(OperandError, match="directory is 5: a path is needed"):
        runtime.load("gfx942", "virtual", 5)  # type: ignore[arg-type]
    with pytest.raises(KernelsNotFoundError, match="no kernels for gfx942 in the directory given"):
        runtime.load("gfx942", "hip", tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        runtime.lood  # noqa: B018
