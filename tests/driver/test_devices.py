"""Devices of the virtual GPU: counting, choosing, properties, attributes, contexts, peers, versions."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from petitgen.spec.catalog import load_catalog

from .harness import ARCHES, Hip, client

pytestmark = pytest.mark.compiler

INVALID_VALUE, INVALID_DEVICE, INVALID_CONTEXT = 1, 101, 201
integer = ctypes.c_int

# Byte offsets in hipDeviceProp_t of ROCm 6 and later (R0600) and of ROCm 5 (R0000), as compilers lay out the published
# structs; tests with hip-python and with AMD's own headers check them a second time.
R0600 = {"name": 0, "totalGlobalMem": 288, "sharedMemPerBlock": 296, "regsPerBlock": 304, "warpSize": 308,
         "maxThreadsPerBlock": 320, "multiProcessorCount": 388, "gcnArchName": 1160}  # fmt: skip
R0000 = {"name": 0, "totalGlobalMem": 256, "sharedMemPerBlock": 264, "regsPerBlock": 272, "warpSize": 276,
         "maxThreadsPerBlock": 280, "multiProcessorCount": 336, "gcnArchName": 396}  # fmt: skip


@client
def test_count_and_choice(hip: Hip) -> None:
    hip.ok("hipInit", 0)
    assert hip.hipInit(1) == INVALID_VALUE
    assert hip.value("hipGetDeviceCount", kind=integer) == len(ARCHES)
    hip.ok("hipSetDevice", 1)
    assert hip.value("hipGetDevice", kind=integer) == 1
    assert hip.hipSetDevice(2) == INVALID_DEVICE
    assert hip.hipSetDevice(-1) == INVALID_DEVICE
    assert hip.value("hipGetDevice", kind=integer) == 1
    assert hip.value("hipDeviceGet", 1, kind=integer) == 1
    assert hip.hipDeviceGet(ctypes.byref(integer()), 9) == INVALID_DEVICE
    hip.ok("hipDeviceSynchronize")


@client
def test_the_current_device_is_the_threads_own(hip: Hip) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hip.ok("hipSetDevice", 1)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: hip.value("hipGetDevice", kind=integer)).result() == 0


@pytest.mark.parametrize(("call", "layout"), [("R0600", R0600), ("R0000", R0000), ("", R0000)])
@client
def test_properties(hip: Hip, call: str, layout: dict[str, int]) -> None:
    for device, (arch, units) in enumerate(zip(ARCHES, (304, 110), strict=True)):
        block = (ctypes.c_char * 2048)()
        hip.ok(f"hipGetDeviceProperties{call}", block, device)
        raw = bytes(block)

        def number(field: str, size: int = 4, raw: bytes = raw) -> int:
            return int.from_bytes(raw[layout[field] : layout[field] + size], "little")

        name = raw[layout["gcnArchName"] :].split(b"\0")[0].decode()
        assert name.split(":")[0] == arch
        assert b"irtual" in raw[: raw.index(b"\0")]
        assert number("totalGlobalMem", 8) == 1 << 30
        assert number("sharedMemPerBlock", 8) == 65536
        assert number("warpSize") == 64
        assert number("maxThreadsPerBlock") == 1024
        assert number("multiProcessorCount") == units
    assert hip.hipGetDevicePropertiesR0600(block, 2) == INVALID_DEVICE
    assert hip.hipGetDevicePropertiesR0600(None, 0) == INVALID_VALUE


@client
def test_figures_agree_with_the_architectures_of_the_project(hip: Hip) -> None:
    archs = load_catalog().archs
    for device, arch in enumerate(ARCHES):
        assert attribute(hip, 87, device) == archs[arch].wave_size
        assert attribute(hip, 74, device) == archs[arch].lds_bytes
        assert attribute(hip, 10019, device) == archs[arch].registers


def attribute(hip: Hip, number: int, device: int) -> int:
    return hip.value("hipDeviceGetAttribute", number, device, kind=integer)


@client
def test_attributes(hip: Hip) -> None:
    expected = {63: (304, 110), 56: (1024, 1024), 61: (4, 0), 23: (9, 9), 10018: (8, 1), 10015: (304, 110), 16: (0, 0)}
    for number, values in expected.items():
        assert tuple(attribute(hip, number, d) for d in (0, 1)) == values, number
    assert hip.hipDeviceGetAttribute(ctypes.byref(integer()), 5000, 0) == INVALID_VALUE
    assert hip.hipDeviceGetAttribute(ctypes.byref(integer()), 63, 2) == INVALID_DEVICE


@client
def test_names_and_addresses(hip: Hip) -> None:
    name = ctypes.create_string_buffer(8)
    hip.ok("hipDeviceGetName", name, 8, 0)
    assert len(name.value) == 7
    uuids = [(ctypes.c_char * 16)() for _ in ARCHES]
    for device, uuid in enumerate(uuids):
        hip.ok("hipDeviceGetUuid", uuid, device)
    assert bytes(uuids[0]) != bytes(uuids[1])
    bus = ctypes.create_string_buffer(16)
    hip.ok("hipDeviceGetPCIBusId", bus, 16, 1)
    assert hip.value("hipDeviceGetByPCIBusId", bus.value, kind=integer) == 1
    assert hip.value("hipDeviceTotalMem", 1, kind=ctypes.c_size_t) == 1 << 30
    major, minor = integer(), integer()
    hip.ok("hipDeviceComputeCapability", ctypes.byref(major), ctypes.byref(minor), 0)
    assert (major.value, minor.value) == (9, 4)
    wanted = (ctypes.c_char * 2048)()
    hip.ok("hipGetDevicePropertiesR0600", wanted, 1)
    assert hip.value("hipChooseDeviceR0600", wanted, kind=integer) == 1


@client
def test_versions(hip: Hip) -> None:
    runtime, driver = (hip.value(f"hip{which}GetVersion", kind=integer) for which in ("Runtime", "Driver"))
    assert runtime == driver
    assert runtime // 10_000_000 >= 6


@client
def test_settings_that_change_nothing_are_accepted(hip: Hip) -> None:
    hip.ok("hipSetDeviceFlags", 4)
    assert hip.value("hipGetDeviceFlags", kind=ctypes.c_uint) == 4
    hip.ok("hipDeviceSetCacheConfig", 2)
    assert hip.value("hipDeviceGetCacheConfig", kind=integer) == 0
    hip.ok("hipDeviceSetSharedMemConfig", 1)
    assert hip.value("hipDeviceGetSharedMemConfig", kind=integer) == 0
    assert hip.value("hipDeviceGetLimit", 0, kind=ctypes.c_size_t) > 0
    assert hip.hipDeviceGetLimit(ctypes.byref(ctypes.c_size_t()), 77) == 215  # hipErrorUnsupportedLimit
    least, greatest = integer(), integer()
    hip.ok("hipDeviceGetStreamPriorityRange", ctypes.byref(least), ctypes.byref(greatest))
    assert greatest.value < least.value


@client
def test_contexts_name_devices(hip: Hip) -> None:
    contexts = [hip.value("hipDevicePrimaryCtxRetain", d) for d in (0, 1)]
    assert hip.value("hipCtxGetCurrent") == contexts[0]
    hip.ok("hipCtxSetCurrent", contexts[1])
    assert hip.value("hipCtxGetDevice", kind=integer) == 1
    hip.ok("hipCtxPushCurrent", contexts[0])
    assert hip.value("hipGetDevice", kind=integer) == 0
    assert hip.value("hipCtxPopCurrent") == contexts[0]
    assert hip.value("hipGetDevice", kind=integer) == 1
    assert hip.hipCtxPopCurrent(None) == INVALID_CONTEXT
    assert hip.hipCtxSetCurrent(12345) == INVALID_CONTEXT
    flags, active = ctypes.c_uint(), integer()
    hip.ok("hipDevicePrimaryCtxGetState", 1, ctypes.byref(flags), ctypes.byref(active))
    assert active.value == 1
    hip.ok("hipDevicePrimaryCtxRelease", 1)
    hip.ok("hipCtxSynchronize")


@client
def test_a_kernel_reaches_a_peers_memory_once_access_is_enabled(hip: Hip) -> None:
    hip.ok("hipSetDevice", 1)
    theirs = hip.upload(np.zeros(64, np.int32))
    hip.ok("hipSetDevice", 0)
    add = hip.function(hip.module(), "add")
    arguments = (ctypes.c_void_p(theirs), ctypes.c_int(5), ctypes.c_uint(64))
    assert hip.value("hipDeviceCanAccessPeer", 0, 1, kind=integer) == 1
    assert hip.value("hipDeviceCanAccessPeer", 1, 1, kind=integer) == 0
    assert hip.value("hipDeviceGetP2PAttribute", 1, 0, 1, kind=integer) == 1
    assert hip.hipDeviceDisablePeerAccess(1) == 705  # hipErrorPeerAccessNotEnabled
    hip.ok("hipDeviceEnablePeerAccess", 1, 0)
    assert hip.hipDeviceEnablePeerAccess(1, 0) == 704  # hipErrorPeerAccessAlreadyEnabled
    assert hip.launch(add, 1, *arguments) == 0
    assert (hip.download(theirs, np.zeros(64, np.int32)) == 5).all()
    hip.ok("hipDeviceDisablePeerAccess", 1)
    assert hip.launch(add, 1, *arguments) == 719  # hipErrorLaunchFailure
    hip.ok("hipDeviceReset")
    hip.ok("hipDeviceEnablePeerAccess", 1, 0)
    hip.ok("hipDeviceReset")
    assert hip.hipDeviceDisablePeerAccess(1) == 705  # a reset ends it
