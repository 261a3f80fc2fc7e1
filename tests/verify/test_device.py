"""What execute() refuses: operands that are not the kernel's, each before anything is allocated or launched."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest

from petitgen.errors import VerifyError
from petitgen.verify.device import execute
from runtime.packing import pack_nvfp4

from .test_runner import MAX_BYTES, made_up_kernel

BF16 = ml_dtypes.bfloat16


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("allocated or launched")

    monkeypatch.setattr("petitgen.verify.device.DeviceMemory", fail)
    monkeypatch.setattr("petitgen.verify.device.launch", fail)


def weights(n=8, k=32):
    return pack_nvfp4(np.zeros((n, k // 2), np.uint8), np.zeros((n, k // 16), np.uint8), np.float32(1))


def refused(tmp_path, a, w, lda=32, ldc=8, arch="gfx942", kernel=None):
    with pytest.raises(VerifyError) as caught:
        execute(kernel or made_up_kernel(), tmp_path / "none.hsaco", arch, a, w, lda, ldc)
    text = str(caught.value)
    assert text.startswith("gemm_nvfp4_bf16__gfx942_made_up")
    assert "\n" not in text
    return text


def test_a_good_problem_gets_as_far_as_memory(tmp_path):
    with pytest.raises(AssertionError, match="allocated or launched"):
        execute(made_up_kernel(), tmp_path / "none.hsaco", "gfx942", np.zeros((4, 32), BF16), weights(), 32, 8)


def test_activations_of_another_type_rank_or_depth(tmp_path):
    assert "A is float16, the kernel reads bfloat16" in refused(tmp_path, np.zeros((4, 32), np.float16), weights())
    assert "A has 1 dimensions, two" in refused(tmp_path, np.zeros(32, BF16), weights())
    assert "A has K = 48, the weights have K = 32" in refused(tmp_path, np.zeros((4, 48), BF16), weights(), 48)
    assert "M = 0; at least 1" in refused(tmp_path, np.zeros((0, 32), BF16), weights())


def test_another_architecture(tmp_path):
    text = refused(tmp_path, np.zeros((4, 32), BF16), weights(), arch="gfx90a")
    assert "built for gfx942, cannot run as gfx90a" in text


@pytest.mark.parametrize(
    ("lda", "ldc", "message"),
    [
        (36, 8, "rows of A have to be a multiple of 8 elements apart, they are 36 apart"),
        (24, 8, "rows of A are 32 elements, but only 24 apart"),
        (32, 7, "rows of C are 8 elements, but only 7 apart"),
        (4096, 8, "rows may be at most 2048 elements apart"),
        (32, 4096, "rows may be at most 2048 elements apart"),
    ],
)
def test_pitches(tmp_path, lda, ldc, message):
    assert message in refused(tmp_path, np.zeros((4, 32), BF16), weights(), lda, ldc)


def test_k_that_the_kernel_does_not_take(tmp_path):
    kernel = made_up_kernel()
    deeper = dataclasses.replace(kernel, constraints={**kernel.constraints, "k_multiple": 64})
    text = refused(tmp_path, np.zeros((4, 32), BF16), weights(), kernel=deeper)
    assert "K has to be a multiple of 64, it is 32" in text


@pytest.mark.parametrize(("name", "size"), [("a", 256), ("w", 1024), ("s", 128), ("o", 32), ("c", 64)])
def test_buffers_beyond_what_offsets_reach(tmp_path, name, size):
    """One byte less than the problem takes: 4 x 32 of A, 4 x 8 of C, one brick of codes, one of scales."""
    kernel = made_up_kernel()
    small = [
        dataclasses.replace(one, max_bytes=size - 1 if one.name == name else one.max_bytes)
        for one in kernel.kernarg.args
    ]
    limited = dataclasses.replace(kernel, kernarg=dataclasses.replace(kernel.kernarg, args=tuple(small)))
    text = refused(tmp_path, np.zeros((4, 32), BF16), weights(), kernel=limited)
    assert f"{name.upper()} takes {size} bytes, {size - 1} is the limit" in text
    assert size < MAX_BYTES
