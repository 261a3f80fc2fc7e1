"""What goes into a wheel: everything that a checkout has and petitgen reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of a wheel, as setuptools lays it out."""
    build = tmp_path_factory.mktemp("build")
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(build)]
    command += ["build", "--build-base", str(build), "--build-lib", str(build / "lib")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return build / "lib"


@pytest.mark.parametrize(
    ("folder", "pattern", "place"),
    [
        ("petitgen", "**/*.py", "petitgen"),
        ("runtime", "**/*.py", "runtime"),
        ("petitgen/isa/tables", "*.isa", "petitgen/isa/tables"),
        ("petitgen/spec/schemas", "*.json", "petitgen/spec/schemas"),
        ("petitgen/profiler/page", "*", "petitgen/profiler/page"),
        ("runtime", "*.json", "runtime"),
        ("configs", "**/*.yaml", "petitgen/_data/configs"),
        ("configs/tuned", "*.csv", "runtime/_data/tuned"),
        ("templates", "**/*.j2", "petitgen/_data/templates"),
    ],
)
def test_nothing_is_left_behind(folder: str, pattern: str, place: str, installed: Path) -> None:
    wanted = {path.relative_to(ROOT / folder) for path in (ROOT / folder).glob(pattern)}
    assert wanted
    assert wanted <= {path.relative_to(installed / place) for path in (installed / place).glob(pattern)}


def test_an_installed_copy_finds_its_own_specs(installed: Path, tmp_path: Path) -> None:
    """And renders from its own templates: the checkout is out of sight."""
    script = (
        "import petitgen.paths; from petitgen.render import render; from petitgen.spec import load_catalog\n"
        "print(petitgen.paths.CONFIGS, len([render(i) for i in load_catalog().instances]))"
    )
    environment = {"PYTHONPATH": str(installed), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    configs, count = done.stdout.split()
    assert Path(configs) == installed / "petitgen/_data/configs"
    assert int(count) > 0


def test_an_installed_runtime_finds_its_own_tuned_tables(installed: Path, tmp_path: Path) -> None:
    script = "from runtime import tuned; path = tuned.packaged('gfx942'); print(path); tuned.read(path)"
    environment = {"PYTHONPATH": str(installed), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == installed / "runtime/_data/tuned/gfx942.csv"
