"""Errors of the virtual GPU: the last one, those that stay, those made on purpose, and the calls that are not served."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest

from petitgen.driver import control
from petitgen.driver.table import served, unserved
from petitgen.errors import DriverError

from .harness import Hip, client

pytestmark = pytest.mark.compiler

INVALID_VALUE, OUT_OF_MEMORY, INVALID_DEVICE, LAUNCH_FAILURE, NOT_SUPPORTED, UNKNOWN = 1, 2, 101, 719, 801, 999
size = ctypes.c_size_t


@client
def test_the_last_error_stays_until_it_is_taken(hip: Hip) -> None:
    assert hip.hipGetLastError() == 0
    assert hip.hipSetDevice(99) == INVALID_DEVICE
    hip.ok("hipSetDevice", 0)
    assert hip.hipPeekAtLastError() == INVALID_DEVICE
    assert hip.hipPeekAtLastError() == INVALID_DEVICE
    assert hip.hipGetLastError() == INVALID_DEVICE
    assert hip.hipGetLastError() == 0
    assert hip.hipPeekAtLastError() == 0
    hip.hipMalloc(None, size(1))
    assert hip.hipExtGetLastError() == INVALID_VALUE
    assert hip.hipExtGetLastError() == 0


@client
def test_names_and_texts(hip: Hip) -> None:
    for function in (hip.library.hipGetErrorName, hip.library.hipGetErrorString):
        function.restype = ctypes.c_char_p
    assert hip.library.hipGetErrorName(719) == b"hipErrorLaunchFailure"
    assert hip.library.hipGetErrorString(2) == b"out of memory"
    text = ctypes.c_char_p()
    hip.ok("hipDrvGetErrorName", 100, ctypes.byref(text))
    assert text.value == b"hipErrorNoDevice"
    hip.ok("hipDrvGetErrorString", 0, ctypes.byref(text))
    assert text.value == b"no error"
    assert hip.hipDrvGetErrorName(12345, ctypes.byref(text)) == INVALID_VALUE


FAULTS = {
    "store_at": ("outside every allocation", 0xDEAD0000),
    "unknown_instruction": ("no gfx942 instruction", None),
}


@pytest.mark.parametrize("kernel", FAULTS)
@client
def test_a_kernels_fault_stays_until_the_device_is_reset(hip: Hip, kernel: str) -> None:
    words, address = FAULTS[kernel]
    module = hip.module()
    faulty, add = hip.function(module, kernel), hip.function(module, "add")
    at = hip.upload(np.zeros(64, np.int32))
    assert hip.launch(faulty, 1, ctypes.c_void_p(address or at), block=1) == LAUNCH_FAILURE
    story = control.story()
    assert words in story
    assert kernel in story
    assert re.search(r"pc 0x[0-9a-f]+", story)
    assert hip.hipDeviceSynchronize() == LAUNCH_FAILURE
    assert hip.hipStreamSynchronize(None) == LAUNCH_FAILURE
    assert hip.hipMalloc(ctypes.byref(ctypes.c_void_p()), size(4)) == LAUNCH_FAILURE
    assert hip.launch(add, 1, ctypes.c_void_p(at), ctypes.c_int(1), ctypes.c_uint(64)) == LAUNCH_FAILURE
    assert hip.hipGetLastError() == LAUNCH_FAILURE
    assert hip.hipGetLastError() == LAUNCH_FAILURE
    hip.ok("hipFree", at)  # cleaning up still works
    hip.ok("hipSetDevice", 1)
    hip.ok("hipDeviceSynchronize")  # the other device is well
    hip.ok("hipSetDevice", 0)
    hip.ok("hipDeviceReset")
    hip.ok("hipDeviceSynchronize")
    add = hip.function(hip.module(), "add")
    at = hip.upload(np.zeros(64, np.int32))
    assert hip.launch(add, 1, ctypes.c_void_p(at), ctypes.c_int(1), ctypes.c_uint(64)) == 0
    assert (hip.download(at, np.zeros(64, np.int32)) == 1).all()


@client
def test_a_reset_ends_everything_of_that_device(hip: Hip) -> None:
    before = control.live()["allocations"]  # pinned host memory of other tests
    hip.module()
    hip.malloc(1000)
    hip.ok("hipSetDevice", 1)
    kept = hip.upload(np.arange(9))
    hip.ok("hipSetDevice", 0)
    hip.ok("hipDeviceReset")
    assert control.live()["modules"] == 0
    assert control.live()["allocations"] == before + 1
    np.testing.assert_array_equal(hip.download(kept, np.zeros(9, int)), np.arange(9))


@client
def test_failures_on_purpose(hip: Hip) -> None:
    at = hip.malloc(16)
    control.fail("hipMalloc:2:hipErrorOutOfMemory, hipMemset:1")
    out = ctypes.c_void_p(5)
    assert hip.hipMalloc(ctypes.byref(out), size(8)) == 0
    assert hip.hipMalloc(ctypes.byref(out), size(8)) == OUT_OF_MEMORY
    assert hip.hipGetLastError() == OUT_OF_MEMORY
    assert hip.hipMalloc(ctypes.byref(out), size(8)) == 0
    assert hip.hipMemset(at, 0, size(16)) == UNKNOWN
    assert hip.hipMemset(at, 0, size(16)) == 0
    assert control.calls("hipMalloc") == 3
    control.fail("*:2:719")
    assert control.calls() == 0
    assert [hip.hipInit(0), hip.hipInit(0), hip.hipInit(0)] == [0, LAUNCH_FAILURE, 0]
    assert control.calls() == 3
    before = control.live()["allocations"]
    control.fail("hipFree:1")
    assert hip.hipFree(at) == UNKNOWN  # says so, and gives the memory back all the same
    assert control.live()["allocations"] == before - 1
    for wrong in ("hipMalloc", "hipMalloc:0", "hipMalloc:1:hipErrorNonsense", ":1"):
        with pytest.raises(DriverError, match="function:count"):
            control.fail(wrong)


@client
def test_every_call_fails_when_made_to(hip: Hip) -> None:
    """With any arguments at all: a call that is made to fail does not look at them."""
    for call in served():
        if {"quiet", "cleanup"} & set(call.flags):
            continue
        control.fail(f"{call.name}:1:719")
        assert getattr(hip, call.name)(*([None] * 12)) == LAUNCH_FAILURE, call.name


@client
def test_calls_that_are_not_served_say_so(hip: Hip) -> None:
    for name in unserved():
        assert getattr(hip, name)(None, None, None) == NOT_SUPPORTED
        assert control.story() == f"{name} is not served by the virtual GPU"
        assert hip.hipGetLastError() == NOT_SUPPORTED
