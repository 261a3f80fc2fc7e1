"""Libraries on the virtual GPU; the same tests run on a real one with `pytest -m gpu`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHS = ("gfx942", "gfx90a")
TILES = ("m64n128k64_w1x4x1", "m64n256k64_w1x4x1", "m128n128k64_w1x4x1")




@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of kernels: three tiles for each architecture and activation type."""
    from petitgen.build.run import build
    from petitgen.spec import load_catalog

    of_nvfp4 = [one for one in load_catalog().gemms if one.weights.name == "nvfp4" and one.activations.name != "fp8"]
    chosen = [one for one in of_nvfp4 if one.name.endswith(TILES)]
    folder = tmp_path_factory.mktemp("kernels")
    assert len(chosen) == 12
    assert not build(chosen, chosen, folder).failed
    return folder


@pytest.fixture(scope="session")
def grouped_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the grouped kernels of NVFP4: a tile for few rows, and one each for blocks of 64 and 128."""
    from petitgen.build.run import build
    from petitgen.spec import load_catalog

    chosen = load_catalog().select(["grouped_nvfp4_*"])
    folder = tmp_path_factory.mktemp("grouped")
    assert len(chosen) == 12
    assert not build(chosen, chosen, folder).failed
    return folder


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["virtual", pytest.param("hip", marks=pytest.mark.gpu)])
def load(request: pytest.FixtureRequest, built: Path) -> Callable[..., Any]:
    """runtime.load on the virtual GPU or on a real one."""
    pytest.importorskip("hip")
    import runtime
    from runtime.errors import ArchError, HipLibraryError

    def load(arch: str, directory: Path = built) -> Any:
        try:
            return runtime.load(arch, request.param, directory)
        except (ArchError, HipLibraryError) as error:
            if Path("/dev/kfd").exists():  # another GPU; or one process cannot have both a real and a virtual one
                pytest.skip(str(error))
            raise

    return load


@pytest.fixture
def lib(load: Callable[..., Any], arch: str) -> Iterator[Any]:
    with load(arch) as library:
        yield library


@pytest.fixture
def alive(lib: Any) -> Callable[[str], int]:
    """How many "allocations" or "modules" the virtual GPU has."""
    if not lib.virtual:
        pytest.skip("only the virtual GPU tells what is alive")
    count = ctypes.CDLL(str(lib.hip.library)).petitgen_virtual_live
    count.restype = ctypes.c_long
    return lambda what: count(what.encode())


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a process of its own: python(script, *arguments, VARIABLE=value); it has to succeed.

    executable: another Python than this one.
    """

    def run(
        script: str, *arguments: Any, executable: Any = sys.executable, **environment: Any
    ) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "script.py"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        file.write_text(script)
        done = subprocess.run(
            [executable, str(file), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, **{k: str(v) for k, v in environment.items()}},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    return run
