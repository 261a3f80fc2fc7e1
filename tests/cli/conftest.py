"""A generated/ directory with a few real kernels, built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from petitgen.build.run import build
from petitgen.spec import load_catalog


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One kernel of each arch, built with the clang of the ziglang wheel."""
    output = tmp_path_factory.mktemp("generated")
    catalog = load_catalog()
    selected = [catalog.select(["gemm_nvfp4_bf16__*"], arch)[0] for arch in catalog.archs]
    report = build(selected, catalog.instances, output, hipcc="ziglang", cache=output / "cache")
    assert not report.failed, report.failed
    return output
