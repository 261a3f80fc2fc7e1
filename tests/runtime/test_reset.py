"""hipDeviceReset, by this process or behind its back: what was on the device is gone, and only that.

On the virtual GPU: a reset takes what everybody else in the process has on the device.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.errors import DeviceResetError, HipError
from tests.runtime.problems import case

pytestmark = pytest.mark.compiler


@pytest.fixture(params=["virtual"])
def load(load: Any) -> Any:
    return load


def told(lib: Any) -> None:
    lib.hip.reset(lib.device)


def untold(lib: Any) -> None:
    """As somebody else's code would do it."""
    from hip import hip

    with lib.hip.on(lib.device):
        assert hip.hipDeviceReset()[0] == hip.hipError_t.hipSuccess


@pytest.mark.parametrize("reset", [told, untold])
def test_host_arrays_and_packed_weights_go_on(lib, reset):
    one = case(4, 64, 128)
    one.check(lib, lib.gemm(one.x, one.weight))
    reset(lib)
    one.check(lib, lib.gemm(one.x, one.weight))
    other = case(4, 48, 64)
    one.check(lib, lib.numpy(lib.gemm(lib.array(one.x), one.weight)))
    other.check(lib, lib.gemm(other.x, other.weight))


@pytest.mark.parametrize("reset", [told, untold])
def test_what_was_on_the_device_is_refused_and_can_be_made_again(lib, reset):
    one = case(4, 64, 128)
    x, out, w = lib.array(one.x), lib.empty((4, 64), "bf16"), one.weight.to(lib)
    plan = lib.plan(w, 4)
    plan(x, out)
    lib.gemm(x, w, out=out)
    reset(lib)
    for launch in (
        lambda: plan(x, out),
        lambda: lib.gemm(x, w, out=out),
        lambda: lib.gemm(x, one.weight),
        lambda: lib.gemm(one.x, w),
        lambda: lib.plan(w, 4),
        lambda: lib.numpy(out),
    ):
        with pytest.raises(
            DeviceResetError, match=r"was reset, and what was on it is gone|is gone: the device was reset"
        ):
            launch()
    x, out, w = lib.array(one.x), lib.empty((4, 64), "bf16"), one.weight.to(lib)
    lib.plan(w, 4)(x, out)
    one.check(lib, lib.numpy(out))


@pytest.mark.parametrize("reset", [told, untold])
def test_arrays_from_before_are_refused_in_layouts_that_were_met_since(lib, reset):
    """Their memory may be somebody else's by now."""
    one = case(4, 64, 128)
    old = {"x": lib.array(one.x), "out": lib.empty((4, 64), "bf16"), "bias": lib.empty((1, 64), "bf16")}
    old["residual"] = old["out"]
    reset(lib)
    new = {"x": lib.array(one.x), "out": lib.empty((4, 64), "bf16"), "bias": lib.empty((1, 64), "bf16")}
    new["residual"] = lib.empty((4, 64), "bf16")
    w = one.weight.to(lib)
    plan, full = lib.plan(w, 4), lib.plan(w, 4, bias=True, residual=True)
    plan(new["x"], new["out"])
    full(new["x"], new["out"], None, new["bias"], new["residual"])
    for given in (("x", "out"), tuple(new)):
        lib.gemm(w=w, **{name: new[name] for name in given})
    for name in new:
        one_old = {**new, name: old[name]}
        with pytest.raises(DeviceResetError, match="is gone: the device was reset"):
            lib.gemm(w=w, **one_old)
        with pytest.raises(DeviceResetError, match="is gone: the device was reset"):
            full(one_old["x"], one_old["out"], None, one_old["bias"], one_old["residual"])
        if name in ("x", "out"):
            for launch in (lambda given=one_old: lib.gemm(given["x"], w, out=given["out"]),
                           lambda given=one_old: plan(given["x"], given["out"])):  # fmt: skip
                with pytest.raises(DeviceResetError, match="is gone: the device was reset"):
                    launch()


@pytest.mark.parametrize("reset", [told, untold])
def test_an_array_from_before_does_not_free_memory_from_after(lib, alive, reset):
    old = lib.array(np.ones((4, 64), np.float16))
    address = old.address
    reset(lib)
    gc.collect()
    before = alive("allocations")
    new = [lib.array(np.full((4, 64), i, np.float16)) for i in range(3)]
    assert address in [array.address for array in new]  # or this test shows nothing
    del old
    gc.collect()
    assert alive("allocations") == before + 3
    assert [lib.numpy(array)[0, 0] for array in new] == [0, 1, 2]
    del new
    gc.collect()
    assert alive("allocations") == before


def test_a_stream_that_is_none_is_not_taken_for_a_reset(lib):
    one = case(4, 64, 128)
    x, w = lib.array(one.x), one.weight.to(lib)
    with pytest.raises(HipError, match="hipErrorInvalidHandle"):
        lib.gemm(x, w, stream=12345)
    one.check(lib, lib.numpy(lib.gemm(x, w)))


@pytest.mark.parametrize("close_is_first", [False, True])
def test_a_fault_is_told_once_and_a_reset_heals(load, arch, close_is_first):
    """Closing raises what nobody has been told, and not what was raised before."""
    one = case(4, 64, 128)
    lib = load(arch)
    out = lib.empty((4, 64), "bf16")
    nowhere = runtime.DeviceArray(out.address + (1 << 30), (4, 128), "bf16", device=lib.device)
    plan = lib.plan(one.weight, 4)
    fault = pytest.raises(HipError, match=r"hipErrorLaunchFailure|hipErrorIllegalAddress")
    if close_is_first:
        launch = lib.hip.launch
        plan._launcher._call = lambda *args: (launch(*args), (lib.hip.success,))[1]  # tells nobody, as on a GPU
        plan(nowhere, out)
        with fault:
            lib.close()
    else:
        with fault:
            plan(nowhere, out)
        lib.close()
    lib.hip.reset(lib.device)
    with load(arch) as new:
        one.check(new, new.gemm(one.x, one.weight))
