"""Streams and events of the virtual GPU."""

from __future__ import annotations

import ctypes
import time

import numpy as np
import pytest

from .harness import Hip, client

pytestmark = pytest.mark.compiler

INVALID_VALUE, INVALID_HANDLE = 1, 400
NON_BLOCKING, DISABLE_TIMING = 1, 2
LEGACY, PER_THREAD = 1, 2
unsigned = ctypes.c_uint


@client
def test_streams_are_made_and_ended(hip: Hip) -> None:
    plain = hip.value("hipStreamCreate")
    free = hip.value("hipStreamCreateWithFlags", NON_BLOCKING)
    urgent = hip.value("hipStreamCreateWithPriority", 0, -9)
    flags, priority, device = unsigned(), ctypes.c_int(), ctypes.c_int()
    hip.ok("hipStreamGetFlags", free, ctypes.byref(flags))
    assert flags.value == NON_BLOCKING
    hip.ok("hipStreamGetPriority", urgent, ctypes.byref(priority))
    assert priority.value == -1
    hip.ok("hipStreamGetDevice", plain, ctypes.byref(device))
    assert device.value == 0
    assert hip.hipGetStreamDeviceId(plain) == 0
    for stream in (plain, free, urgent):
        hip.ok("hipStreamQuery", stream)
        hip.ok("hipStreamSynchronize", stream)
        hip.ok("hipStreamDestroy", stream)
        assert hip.hipStreamDestroy(stream) == INVALID_HANDLE
        assert hip.hipStreamSynchronize(stream) == INVALID_HANDLE
    assert hip.hipStreamCreateWithFlags(ctypes.byref(ctypes.c_void_p()), 8) == INVALID_VALUE


@client
def test_default_streams(hip: Hip) -> None:
    at = hip.upload(np.zeros(16, np.uint8))
    for number, stream in enumerate((None, LEGACY, PER_THREAD), 1):
        hip.ok("hipMemsetAsync", at, number, ctypes.c_size_t(16), stream)
        hip.ok("hipStreamSynchronize", stream)
        assert (hip.download(at, np.zeros(16, np.uint8)) == number).all()


@client
def test_a_handle_that_is_none_is_an_error(hip: Hip) -> None:
    junk = (ctypes.c_char * 64)()
    at = ctypes.addressof(junk)
    assert hip.hipStreamSynchronize(at) == INVALID_HANDLE
    assert hip.hipEventRecord(at, None) == INVALID_HANDLE
    assert hip.hipModuleUnload(at) == INVALID_HANDLE
    event = hip.value("hipEventCreate")
    assert hip.hipStreamSynchronize(event) == INVALID_HANDLE
    hip.ok("hipEventDestroy", event)


@client
def test_work_is_done_in_the_order_it_was_issued(hip: Hip) -> None:
    """Two streams take turns at one buffer, each waiting for the other's event."""
    module = hip.module()
    add = hip.function(module, "add")
    at = hip.upload(np.ones(64, np.int32))
    streams = [hip.value("hipStreamCreate") for _ in range(2)]
    event = hip.value("hipEventCreateWithFlags", DISABLE_TIMING)
    for turn in range(6):
        stream = streams[turn % 2]
        hip.ok("hipStreamWaitEvent", stream, event, 0)
        assert hip.launch(add, 1, ctypes.c_void_p(at), ctypes.c_int(10**turn), unsigned(64), stream=stream) == 0
        hip.ok("hipEventRecord", event, stream)
    hip.ok("hipEventSynchronize", event)
    assert (hip.download(at, np.zeros(64, np.int32)) == 111112).all()


@client
def test_events_tell_the_time_between_them(hip: Hip) -> None:
    first, second = (hip.value("hipEventCreate") for _ in range(2))
    elapsed = ctypes.c_float()
    assert hip.hipEventElapsedTime(ctypes.byref(elapsed), first, second) == INVALID_HANDLE  # not recorded
    hip.ok("hipEventRecord", first, None)
    time.sleep(0.02)
    hip.ok("hipEventRecordWithFlags", second, None, 0)
    hip.ok("hipEventQuery", second)
    hip.ok("hipEventElapsedTime", ctypes.byref(elapsed), first, second)
    assert 20 <= elapsed.value < 2000
    silent = hip.value("hipEventCreateWithFlags", DISABLE_TIMING)
    hip.ok("hipEventRecord", silent, None)
    assert hip.hipEventElapsedTime(ctypes.byref(elapsed), first, silent) == INVALID_HANDLE
    hip.ok("hipEventDestroy", silent)
    assert hip.hipEventDestroy(silent) == INVALID_HANDLE


@client
def test_an_event_belongs_to_its_device(hip: Hip) -> None:
    event = hip.value("hipEventCreate")
    hip.ok("hipSetDevice", 1)
    assert hip.hipEventRecord(event, None) == INVALID_HANDLE
    hip.ok("hipSetDevice", 0)
    hip.ok("hipEventRecord", event, None)
    hip.ok("hipSetDevice", 1)
    hip.ok("hipStreamWaitEvent", None, event, 0)  # waiting for another device is fine


@client
def test_host_functions_run_in_order(hip: Hip) -> None:
    seen: list[int] = []
    at = hip.upload(np.zeros(4, np.uint8))
    host = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(
        lambda data: seen.append(int(hip.download(at, np.zeros(4, np.uint8))[0]))
    )
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(
        lambda stream, status, data: seen.append(status)
    )
    stream = hip.value("hipStreamCreate")
    hip.ok("hipMemsetAsync", at, 9, ctypes.c_size_t(4), stream)
    hip.ok("hipLaunchHostFunc", stream, host, None)
    hip.ok("hipStreamAddCallback", stream, callback, None, 0)
    hip.ok("hipStreamSynchronize", stream)
    assert seen == [9, 0]
