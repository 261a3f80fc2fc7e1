"""What an unmodified hip-python does on two virtual devices; run by test_hip_python.py with hip-python 7.2 and 10.

python hip_python_script.py DIRECTORY_WITH_KERNELS. Expectations: HIP's documentation; numpy for data.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hip import hip

KERNELS = Path(sys.argv[1])
KIND, ERROR, ATTRIBUTE = hip.hipMemcpyKind, hip.hipError_t, hip.hipDeviceAttribute_t


def check(result: tuple[Any, ...]) -> Any:
    status, *values = result
    if status != ERROR.hipSuccess:
        raise RuntimeError(str(status))
    return values[0] if len(values) == 1 else tuple(values)


def filled(kind: Any, call: Any, *arguments: Any) -> Any:
    """The struct a call gives: 10.x returns it, 7.x fills its first argument."""
    try:
        return check(call(*arguments))
    except TypeError:
        struct = kind()
        check(call(struct, *arguments))
        return struct


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def devices() -> None:
    assert check(hip.hipGetDeviceCount()) == 2
    for device, (arch, units) in enumerate((("gfx942", 304), ("gfx90a", 110))):
        p = filled(hip.hipDeviceProp_t, hip.hipGetDeviceProperties, device)
        assert text(p.gcnArchName).split(":")[0] == arch
        assert "irtual" in text(p.name)
        assert (p.multiProcessorCount, p.warpSize, p.sharedMemPerBlock) == (units, 64, 65536)
        assert p.totalGlobalMem == 2 << 30
        assert (p.maxThreadsPerBlock, list(p.maxThreadsDim)) == (1024, [1024] * 3)
        assert (p.maxSharedMemoryPerMultiProcessor, p.isLargeBar, p.asicRevision) == (65536, 1, 0)
        for name, value in {
            "MultiprocessorCount": units, "WarpSize": 64, "MaxSharedMemoryPerBlock": 65536, "MaxThreadsPerBlock": 1024,
            "ClockRate": p.clockRate, "L2CacheSize": p.l2CacheSize, "ComputeCapabilityMajor": 9, "PciBusId": p.pciBusID,
            "MemoryBusWidth": p.memoryBusWidth, "NumberOfXccs": 8 if arch == "gfx942" else 1, "Integrated": 0,
        }.items():  # fmt: skip
            assert check(hip.hipDeviceGetAttribute(getattr(ATTRIBUTE, f"hipDeviceAttribute{name}"), device)) == value, (
                name
            )


def memory() -> None:
    data = np.random.default_rng(0).standard_normal(1000)
    out = np.zeros_like(data)
    at = check(hip.hipMalloc(data.nbytes))
    check(hip.hipMemcpy(at, data, data.nbytes, KIND.hipMemcpyHostToDevice))
    check(hip.hipMemcpy(out, at, data.nbytes, KIND.hipMemcpyDeviceToHost))
    np.testing.assert_array_equal(out, data)
    check(hip.hipMemset(at, 0, data.nbytes))
    check(hip.hipMemcpyAsync(out, at, data.nbytes, KIND.hipMemcpyDeviceToHost, None))
    assert not out.any()
    a = filled(hip.hipPointerAttribute_t, hip.hipPointerGetAttributes, at)
    assert (a.type, a.device) == (hip.hipMemoryType.hipMemoryTypeDevice, 0)
    free, total = check(hip.hipMemGetInfo())
    assert (total, total - free) == (2 << 30, data.nbytes)
    assert hip.hipMalloc(3 << 30)[0] == ERROR.hipErrorOutOfMemory
    assert hip.hipGetLastError()[0] == ERROR.hipErrorOutOfMemory
    assert hip.hipGetLastError()[0] == ERROR.hipSuccess
    check(hip.hipFree(at))


def launches(device: int, arch: str) -> None:
    check(hip.hipSetDevice(device))
    image = (KERNELS / f"{arch}.hsaco").read_bytes()
    for module in (
        check(hip.hipModuleLoadData(image)),
        check(hip.hipModuleLoad(str(KERNELS / f"{arch}.hsaco").encode())),
    ):
        add = check(hip.hipModuleGetFunction(module, b"add"))
        at = upload(np.arange(100, dtype=np.int32))
        stream = check(hip.hipStreamCreate())
        start, stop = (check(hip.hipEventCreate()) for _ in range(2))
        check(hip.hipEventRecord(start, stream))
        one_by_one = (ctypes.c_void_p(int(at)), ctypes.c_int(7), ctypes.c_uint(100))
        check(hip.hipModuleLaunchKernel(add, 2, 1, 1, 64, 1, 1, 0, stream, None, one_by_one))

        class Packed(ctypes.Structure):
            _fields_ = [("at", ctypes.c_void_p), ("value", ctypes.c_int), ("n", ctypes.c_uint)]

        packed = Packed(int(at), 100, 100)
        size = ctypes.c_size_t(ctypes.sizeof(packed))
        extra = (ctypes.c_void_p * 5)(1, ctypes.addressof(packed), 2, ctypes.addressof(size), 3)
        check(hip.hipModuleLaunchKernel(add, 2, 1, 1, 64, 1, 1, 0, stream, None, ctypes.addressof(extra)))
        check(hip.hipEventRecord(stop, stream))
        check(hip.hipStreamSynchronize(stream))
        assert check(hip.hipEventElapsedTime(start, stop)) > 0
        np.testing.assert_array_equal(download(at), np.arange(100) + 107)
        for call, handle in ((hip.hipStreamDestroy, stream), (hip.hipFree, at), (hip.hipModuleUnload, module)):
            check(call(handle))


def upload(array: np.ndarray) -> Any:
    at = check(hip.hipMalloc(array.nbytes))
    check(hip.hipMemcpy(at, array, array.nbytes, KIND.hipMemcpyHostToDevice))
    return at


def download(at: Any) -> np.ndarray:
    out = np.zeros(100, np.int32)
    check(hip.hipMemcpy(out, at, out.nbytes, KIND.hipMemcpyDeviceToHost))
    return out


def graphs() -> None:
    check(hip.hipSetDevice(0))
    module = check(hip.hipModuleLoad(str(KERNELS / "gfx942.hsaco").encode()))
    add = check(hip.hipModuleGetFunction(module, b"add"))
    at = upload(np.zeros(100, np.int32))
    stream = check(hip.hipStreamCreate())
    check(hip.hipStreamBeginCapture(stream, hip.hipStreamCaptureMode.hipStreamCaptureModeGlobal))
    arguments = (ctypes.c_void_p(int(at)), ctypes.c_int(3), ctypes.c_uint(100))
    check(hip.hipModuleLaunchKernel(add, 2, 1, 1, 64, 1, 1, 0, stream, None, arguments))
    assert check(hip.hipStreamIsCapturing(stream)) == hip.hipStreamCaptureStatus.hipStreamCaptureStatusActive
    graph = check(hip.hipStreamEndCapture(stream))
    runnable = check(hip.hipGraphInstantiateWithFlags(graph, 0))
    for _ in range(4):
        check(hip.hipGraphLaunch(runnable, stream))
    check(hip.hipStreamSynchronize(stream))
    assert (download(at) == 12).all()
    check(hip.hipGraphExecDestroy(runnable))
    check(hip.hipGraphDestroy(graph))


def errors() -> None:
    assert str(hip.hipGetErrorName(ERROR.hipErrorLaunchFailure)[-1]) == "hipErrorLaunchFailure"
    assert hip.hipModuleLoad(b"/nonexistent/file.hsaco")[0] == ERROR.hipErrorFileNotFound
    assert hip.hipProfilerStart()[0] == ERROR.hipErrorNotSupported
    module = check(hip.hipModuleLoad(str(KERNELS / "gfx942.hsaco").encode()))
    store = check(hip.hipModuleGetFunction(module, b"store_at"))
    status = hip.hipModuleLaunchKernel(store, 1, 1, 1, 1, 1, 1, 0, None, None, (ctypes.c_void_p(4096),))[0]
    assert status == ERROR.hipErrorLaunchFailure
    assert hip.hipDeviceSynchronize()[0] == ERROR.hipErrorLaunchFailure
    check(hip.hipDeviceReset())
    check(hip.hipDeviceSynchronize())


if __name__ == "__main__":
    devices()
    memory()
    launches(0, "gfx942")
    launches(1, "gfx90a")
    graphs()
    errors()
    print("hip-python on the virtual GPU: right")
