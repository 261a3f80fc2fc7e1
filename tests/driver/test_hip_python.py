"""The unmodified hip-python wheels, 7.2 and 10, each in an environment of its own, on the virtual GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from petitgen.driver import child_environment
from petitgen.toolchain.cachedir import cache_root

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

RELEASES = ("7.2.2.562.43", "10.0.0.0.1.2")
SCRIPT = Path(__file__).with_name("hip_python_script.py")

ACTIVATED = """
import os, sys
sys.path += {more!r}  # petitgen and what it needs; the worker runs in the Python that has it all
from petitgen.driver import activate, check_used
activate(["gfx942", "gfx90a"], "2G")
os.environ["PETITGEN_VIRTUAL_PYTHON"] = {python!r}
sys.argv = {arguments!r}
exec(compile(open({script!r}).read(), {script!r}, "exec"))
check_used()
"""


def environment_with(release: str) -> Path:
    """The Python of an environment that has hip-python `release` and numpy; kept in the cache directory."""
    home = cache_root() / f"test-hip-python-{release}-{sys.version_info.major}.{sys.version_info.minor}"
    python = home / "bin" / "python"
    if (home / "complete").exists() and subprocess.run(
        [python, "-c", "import numpy, hip"], check=False
    ).returncode == 0:
        return python
    quiet = {"capture_output": True, "text": True, "check": False}
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], **quiet)
    if made.returncode == 0:
        made = subprocess.run(
            [python, "-m", "pip", "install", "-q", "--timeout", "20", f"hip-python=={release}", "numpy"], **quiet
        )
    if made.returncode != 0:
        pytest.skip(f"hip-python {release} cannot be installed here: {made.stderr.strip().splitlines()[-1:]}")
    (home / "complete").touch()
    return python


@pytest.fixture(scope="module", params=RELEASES)
def python(request: pytest.FixtureRequest) -> Path:
    with (Path(tempfile.gettempdir()) / f"petitgen-test-hip-python-{request.param}.lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes want it at once
        return environment_with(request.param)


def clean(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "ROCM_PATH")}


def test_a_program_started_with_the_library_in_its_path(python: Path, kernels: Path) -> None:
    environment = clean(child_environment(["gfx942", "gfx90a"], "2G"))
    done = subprocess.run(
        [python, SCRIPT, kernels], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "hip-python on the virtual GPU: right\n"
    assert "hipProfilerStart is not served by the virtual GPU" in done.stderr


def test_a_program_that_activates_the_library(python: Path, kernels: Path) -> None:
    more = [str(Path(__file__).resolve().parents[2]), sysconfig.get_path("purelib")]
    body = ACTIVATED.format(more=more, python=sys.executable, script=str(SCRIPT), arguments=[str(SCRIPT), str(kernels)])
    environment = clean(dict(os.environ))
    done = subprocess.run(
        [python, "-c", body], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "hip-python on the virtual GPU: right\n"
