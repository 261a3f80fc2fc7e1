"""Tests of the virtual GPU run in a process of their own, whose HIP devices are chosen once and may be broken.

    @client
    def test_something(hip: Hip) -> None: ...

runs the body there; an assertion that fails comes back with its traceback.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import inspect
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ARCHES = ("gfx942", "gfx90a")  # the client's devices
KERNELS = "PETITGEN_TEST_KERNELS"  # directory of <arch>.hsaco


class Dim3(ctypes.Structure):
    _fields_ = [("x", ctypes.c_uint32), ("y", ctypes.c_uint32), ("z", ctypes.c_uint32)]


class StatusError(AssertionError):
    """A HIP call that was to succeed did not."""


class Hip:
    """libamdhip64 by ctypes: hip.hipMalloc(...) is the status, hip.ok("hipMalloc", ...) has to be 0."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.lstrip("_").startswith("hip"):
            raise AttributeError(name)
        function = getattr(self.library, name)
        return lambda *arguments: function(*map(_argument, arguments))

    def ok(self, name: str, *arguments: Any) -> None:
        status = getattr(self, name)(*arguments)
        if status:
            raise StatusError(f"{name} gave {status}")

    def value(self, name: str, *arguments: Any, kind: Any = ctypes.c_void_p) -> Any:
        """Call with an output parameter of `kind` in front, and return it."""
        out = kind()
        self.ok(name, ctypes.byref(out), *arguments)
        return out.value if kind is not ctypes.c_void_p else out.value or 0

    def malloc(self, size: int) -> int:
        return self.value("hipMalloc", ctypes.c_size_t(size))

    def upload(self, array: Any) -> int:
        at = self.malloc(array.nbytes)
        self.ok("hipMemcpy", at, array.ctypes.data, ctypes.c_size_t(array.nbytes), 1)
        return at

    def download(self, at: int, like: Any) -> Any:
        out = like.copy()
        out[...] = 0
        self.ok("hipMemcpy", out.ctypes.data, at, ctypes.c_size_t(out.nbytes), 2)
        return out

    def module(self, arch: str = ARCHES[0]) -> int:
        return self.value("hipModuleLoad", kernel_file(arch).encode())

    def function(self, module: int, name: str) -> int:
        return self.value("hipModuleGetFunction", module, name.encode())

    def launch(
        self, function: int, blocks: int, *arguments: Any, stream: int = 0, block: int = 64, lds: int = 0
    ) -> int:
        """hipModuleLaunchKernel with kernelParams; arguments are ctypes values."""
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        # On the stack ctypes writes only the four bytes of an int: pointers there have to be said to be pointers.
        return self.hipModuleLaunchKernel(
            function, blocks, 1, 1, block, 1, 1, lds, ctypes.c_void_p(stream), pointers, None
        )


def _argument(value: Any) -> Any:
    return ctypes.c_void_p(value) if isinstance(value, int) and abs(value) > 0x7FFF_FFFF else value


def kernel_file(arch: str) -> str:
    return str(Path(os.environ[KERNELS]) / f"{arch}.hsaco")


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
    """What is provoked on purpose need not be printed."""
    before = os.environ.get("PETITGEN_VIRTUAL_LOG", "")
    os.environ["PETITGEN_VIRTUAL_LOG"] = os.devnull
    try:
        yield
    finally:
        os.environ["PETITGEN_VIRTUAL_LOG"] = before


# --- the client ------------------------------------------------------------------------------------------

_client: subprocess.Popen[str] | None = None


def _start() -> subprocess.Popen[str]:
    global _client
    if _client is None or _client.poll() is not None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        _client = subprocess.Popen(
            [sys.executable, "-m", "tests.driver.harness"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        atexit.register(_client.kill)
    return _client


def client(test: Callable[..., None]) -> Callable[..., None]:
    """Decorator: run the test in the client. Its first parameter is the Hip, the others pytest's, JSON values."""

    @functools.wraps(test)
    def run(**parameters: Any) -> None:
        process = _start()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {"module": Path(test.__code__.co_filename).stem, "name": test.__name__, "parameters": parameters}
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise AssertionError(f"the client ended with status {process.wait()}")
        story = json.loads(answer)["story"]
        if story:
            raise AssertionError(story)

    signature = inspect.signature(test)
    run.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    del run.__wrapped__
    run.body = test  # type: ignore[attr-defined]
    return run


def _clean(hip: Hip) -> None:
    """As new for the next test, whatever this one left."""
    from petitgen.driver import control

    control.fail()
    for device in reversed(range(len(ARCHES))):
        hip.hipSetDevice(device)
        hip.hipDeviceReset()
    hip.hipGetLastError()


def _serve() -> None:
    from petitgen import driver
    from petitgen.driver import control

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints of a test are no answers
    hip = Hip(driver.activate(ARCHES, "1G"))
    for line in sys.stdin:
        request = json.loads(line)
        story = ""
        try:
            with quiet_log():
                getattr(importlib.import_module(f"tests.driver.{request['module']}"), request["name"]).body(
                    hip, **request["parameters"]
                )
                _clean(hip)
        except BaseException:
            story = (
                f"{traceback.format_exc()}\nlast error {hip.hipPeekAtLastError()}; the log said last: {control.story()}"
            )
            _clean(hip)
        answers.write(json.dumps({"story": story}) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
