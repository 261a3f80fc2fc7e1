"""Every served call works in some test: told by the calls themselves, in a run of all the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from petitgen.driver.table import served

from .harness import ROOT

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


def test_every_served_call_succeeds_in_some_test(tmp_path: Path) -> None:
    """Calls that only fail in the tests, made to or for their arguments, do not count."""
    made = tmp_path / "calls"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "tests/driver"]
    environment = {**os.environ, "PETITGEN_VIRTUAL_CALLS": str(made)}
    environment = {name: value for name, value in environment.items() if not name.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout
    worked = set(made.read_text().split())
    names = {call.name for call in served()}
    assert worked <= names
    assert sorted(names - worked) == []
