"""Built kernels on the emulator: what verify does, and corners that its shapes do not single out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from petitgen.build.run import build
from petitgen.spec import load_catalog
from petitgen.verify import run, select
from petitgen.verify.device import execute
from runtime.manifest import Manifest
from runtime.packing import pack_nvfp4

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The smallest NVFP4 kernel of each arch, activation type and loop, built."""
    smallest = {}
    for one in load_catalog().gemms:
        if one.weights.name != "nvfp4":
            continue
        size = (one.tile.m * one.tile.n * max(one.tile.k, 128), one.name)
        key = (one.arch.name, one.activations.name, one.tile.loop)
        smallest[key] = min(smallest.get(key, (size, one)), (size, one), key=lambda pair: pair[0])
    chosen = [one for _, one in smallest.values()]
    folder = tmp_path_factory.mktemp("generated")
    assert not build(chosen, chosen, folder).failed
    return folder


def test_kernels_of_every_arch_and_type_verify_in_processes_of_their_own(generated):
    done = []
    targets = select(generated)
    report = run(targets, jobs=2, progress=done.append)
    assert len(targets) == 10  # bf16 and fp16 on each arch and in each loop, and FP8 activations in each
    assert report.ok, [case.findings for kernel in report.kernels for case in kernel.cases if not case.ok]
    assert [kernel.name for kernel in report.kernels] == [target.name for target in targets]
    assert {kernel.name for kernel in done} == {target.name for target in targets}


@pytest.mark.parametrize("loop", ["resident", "streamed"])
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_a_lone_subnormal_activation_counts_wherever_it_stands(generated, arch, loop):
    """fp16: the only number in A that is not zero, of either sign, at every place of a 16-byte load."""
    manifest = Manifest.load(generated / arch)
    (kernel,) = (
        manifest.kernels[one.name]
        for one in load_catalog().select(arch=arch)
        if one.name in manifest.kernels and (one.activations.name, one.tile.loop) == ("fp16", loop)
    )
    ones = np.full((1, 8), 0x22, np.uint8)  # 16 codes of 1.0
    weights = pack_nvfp4(ones, np.full((1, 1), 0x38, np.uint8), np.float32(1024))
    for place in range(8):
        for bits in (0x0001, 0x03FF, 0x8001, 0x83FF):
            a = np.zeros((1, 16), np.uint16)
            a[0, place] = bits
            a = a.view(np.float16)
            got = execute(kernel, manifest.path(kernel), arch, a, weights, lda=16, ldc=1).c
            assert float(got[0, 0]) == 1024 * float(a[0, place])


@pytest.mark.parametrize("loop", ["resident", "streamed"])
def test_every_fp8_activation_is_what_it_means(generated, loop):
    """Row i has code i alone: times one it is its value, or NaN, by ml_dtypes."""
    manifest = Manifest.load(generated / "gfx942")
    kernel, *_ = (
        manifest.kernels[one.name]
        for one in load_catalog().gemms
        if one.name in manifest.kernels and (one.activations.name, one.tile.loop) == ("fp8", loop)
    )
    a = np.zeros((256, 32), np.uint8)
    a[:, 7] = np.arange(256)
    a = a.view(ml_dtypes.float8_e4m3fnuz)
    weights = pack_nvfp4(np.full((16, 16), 0x22, np.uint8), np.full((16, 2), 0x38, np.uint8), np.float32(1))
    got = execute(kernel, manifest.path(kernel), "gfx942", a, weights, lda=32, ldc=16, row_scales=np.ones(256, np.float32)).c
    wanted = np.repeat(a[:, 7:8].astype(np.float32), 16, 1)
    assert np.array_equal(got.astype(np.float32), wanted, equal_nan=True)
