"""The kernel that benchmarks/emulator.py measures with is itself free of faults."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "emulator.py"
SECOND = "__builtin_amdgcn_s_barrier();  // nobody writes"


@pytest.fixture
def benchmark_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emulator_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_the_mix_has_no_findings_thanks_to_both_barriers(
    arch: str, benchmark_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = benchmark_module.mix(benchmark_module.build(arch), 8, 3, sanitize=True)
    assert [str(finding) for finding in result.findings] == []
    source = benchmark_module.SOURCE
    assert source.count(SECOND) == 1
    monkeypatch.setattr(benchmark_module, "SOURCE", source.replace(SECOND, "//"))
    result, _ = benchmark_module.mix(benchmark_module.build(arch), 8, 3, sanitize=True)
    assert {finding.check for finding in result.findings} == {"race"}
