"""Faults planted in the templates, one at a time: each still builds, and verification has to find it.

When a template changes, the text that a fault replaces may be gone: bring the fault up to date then, so that it is
planted exactly once again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from petitgen.build.run import build
from petitgen.paths import TEMPLATES
from petitgen.render import render
from petitgen.spec import load_catalog
from petitgen.spec.model import KernelInstance
from petitgen.verify import KernelReport, Target, run
from petitgen.verify.shapes import default_shapes, in_epilogues, in_slices

from .faults import PREFILL, STREAMED, Fault, Named, Plant
from .faults_arrays import ARRAY_FAULTS
from .faults_epilogue import EPILOGUE_FAULTS
from .faults_fp8 import FP8_FAULTS
from .faults_grouped import GROUPED_FAULTS
from .faults_resident import RESIDENT_FAULTS
from .faults_streamed import STREAMED_FAULTS
from .faults_waits import WAITS

FAULTS = [
    *STREAMED_FAULTS,
    *EPILOGUE_FAULTS,
    *RESIDENT_FAULTS,
    *GROUPED_FAULTS,
    *FP8_FAULTS,
    *WAITS,
    *ARRAY_FAULTS,
]


def instance_of(plant: Plant | Named) -> KernelInstance:
    """The kernel of that name, or the smallest with these properties."""
    if isinstance(plant, Named):
        (one,) = load_catalog().select([plant.name])
        return one
    wanted = plant.op, plant.arch, plant.weights, plant.activations, plant.loop
    fitting = [
        one
        for one in load_catalog().tiled
        if (one.op, one.arch.name, one.weights.name, one.activations.name, one.tile.loop) == wanted
        and plant.m in (0, one.tile.m)
        and plant.n in (0, one.tile.n)
    ]
    return min(fitting, key=lambda one: (one.tile.m * one.tile.n, one.tile.k, one.name))


def built(instance: KernelInstance, templates: Path, work: Path) -> Target:
    made = build([instance], [instance], work, render=lambda one: render(one, templates))
    assert not made.failed, made.failed[0].error
    return Target(work / instance.arch.name / "manifest.json", instance.name)


def planted(fault: Fault, folder: Path) -> Path:
    """The templates with the fault."""
    templates = folder / "templates"
    shutil.copytree(TEMPLATES, templates)
    path = templates / fault.template
    text = path.read_text()
    assert text.count(fault.old) == 1, f"the fault is not planted exactly once: {fault.old!r}"
    path.write_text(text.replace(fault.old, fault.new))
    return templates


def verified(target: Target, fault: Fault | None = None, sanitize: bool = False) -> KernelReport:
    """Verify a kernel at its own shapes, or those that can show a fault, up to the first thing that is wrong."""
    kernel = target.kernel()
    limits = kernel.constraints
    shapes = None
    if fault and fault.sliced:
        shapes = in_slices(default_shapes(kernel.tile, limits["k_multiple"], limits["max_pitch"]))
    elif fault and fault.finished:
        shapes = in_epilogues(kernel.tile, limits["k_multiple"])
    return run([target], shapes=shapes, jobs=1, stop_early=True, sanitize=sanitize).kernels[0]


@pytest.mark.compiler
@pytest.mark.parametrize("plant", sorted({fault.kernel for fault in FAULTS}, key=str), ids=str)
def test_without_a_fault_the_kernel_is_right(plant, tmp_path):
    report = verified(built(instance_of(plant), TEMPLATES, tmp_path))
    assert report.ok, [case.findings for case in report.cases if not case.ok]


@pytest.mark.compiler
@pytest.mark.parametrize("fault", [f for f in FAULTS if not f.unseen], ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_found(fault, tmp_path):
    target = built(instance_of(fault.kernel), planted(fault, tmp_path), tmp_path / "generated")
    report = verified(target, fault)
    assert not report.ok
    assert any(case.mismatch or case.trespasses for case in report.cases), "found, but not by its result"


@pytest.mark.compiler
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.unseen], ids=lambda fault: fault.name.replace(" ", "-"))
def test_the_sanitizer_finds_a_fault(fault, tmp_path):
    target = built(instance_of(fault.kernel), planted(fault, tmp_path), tmp_path / "generated")
    report = verified(target, fault, sanitize=True)
    assert any(case.faults for case in report.cases), "not found by the sanitizer"


@pytest.mark.compiler
def test_a_kernel_that_never_ends_is_stopped(tmp_path):
    step = "k0 < end; k0 += STAGES * TILE_K"
    endless = Fault("endless", STREAMED, step, "k0 < end; k0 += k0")
    report = verified(built(instance_of(PREFILL), planted(endless, tmp_path), tmp_path / "generated"))
    assert [bool(case.error) for case in report.cases] == [True]
    assert "endless loop" in report.cases[0].error


def test_there_are_faults_of_every_kind():
    assert len(FAULTS) == len({fault.name for fault in FAULTS}) >= 60
    templates = {str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2")}
    # The order of instructions that lib/mix asks for changes no result.
    assert {fault.template for fault in FAULTS} == templates - {"lib/mix.hip.j2"}
