"""petitgen doctor: what is here, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click

from petitgen import __version__
from petitgen.cli import options
from petitgen.errors import PetitgenError
from petitgen.spec import load_catalog
from petitgen.toolchain import choose
from petitgen.toolchain.cachedir import cache_root

KFD = Path("/dev/kfd")
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")
DRIVER = "libamdhip64.so"
CHECKOUT = Path(__file__).resolve().parents[2] / "pyproject.toml"  # not in an installed package


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. state: "ok", "missing" (something cannot be done without it) or "absent" (optional)."""

    name: str
    state: str
    detail: str
    advice: str = ""


@click.command()
@click.option("--arch", help="Only this architecture.")
@options.hipcc
@options.as_json
def doctor(arch: str | None, hipcc: str | None, as_json: bool) -> None:
    """Say which compiler is used for each architecture and why not another, and what else is here.

    That is GPU, driver, hip-python, torch and emulator, with versions. Exit status 1 when kernels cannot be
    built or verified here.

    \b
    Examples:
      petitgen doctor
      petitgen doctor --arch gfx942 --hipcc /opt/rocm/bin/hipcc
      petitgen doctor --json
    """
    checks = list(findings(arch, hipcc))
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{check.state:8} {check.name:{width}}  {check.detail}")
            if check.advice:
                click.echo(f"{'':8} {'':{width}}  -> {check.advice}")
    if any(check.state == "missing" for check in checks):
        sys.exit(1)


def findings(arch: str | None = None, hipcc: str | None = None) -> Iterator[Check]:
    """Every check, in the order of what depends on what."""
    yield Check("petitgen", "ok", f"{__version__}, Python {platform.python_version()}, {platform.machine()}")
    for name in [arch] if arch else load_catalog().archs:
        yield from _compiler(name, hipcc)
    yield Check("cache", "ok", str(cache_root()))
    yield _emulator()
    yield _gpu()
    yield from _tools()
    yield _driver()
    yield _package("hip-python", f"needed to launch on a GPU: pip install {_extra('hip')}")
    yield _package("torch", f"needed for torch tensors and ops: pip install {_extra('torch')}")


def _compiler(arch: str, hipcc: str | None) -> Iterator[Check]:
    try:
        choice = choose(arch, hipcc)
    except PetitgenError as error:
        first, *rest = str(error).splitlines()
        yield Check(f"compiler {arch}", "missing", "; ".join([first, *(line.strip() for line in rest[:-1])]),
                    rest[-1].strip() if rest else "")  # fmt: skip
        return
    taken = choice.selected
    yield Check(f"compiler {arch}", "ok", f"{taken.name} ({taken.route}): {taken.detail}, {taken.version}")
    for other in choice.passed_over:
        yield Check(f"compiler {arch}", "absent", f"passed over {other.candidate}: {other.reason}")


def _emulator() -> Check:
    try:
        numba = metadata.version("numba")
        present = importlib.util.find_spec("petitgen.emulator") is not None
    except metadata.PackageNotFoundError:
        return Check("emulator", "missing", "numba is not installed", "pip install numba")
    state = "ok" if present else "missing"
    return Check("emulator", state, f"gfx90a and gfx942, numba {numba}, numpy {metadata.version('numpy')}")


def _gpu() -> Check:
    if not KFD.exists():
        return Check("GPU", "absent", f"{KFD} is not there: no AMD GPU, or its kernel driver is not loaded",
                     "kernels run on the emulator")  # fmt: skip
    if not os.access(KFD, os.R_OK | os.W_OK):
        return Check("GPU", "absent", f"{KFD} may not be opened by this user", "join the render group")
    found = [_target(path.read_text()) for path in KFD_NODES.glob("*/properties")]
    return Check("GPU", "ok", ", ".join(filter(None, found)) or "the driver is loaded but lists no GPU")


def _target(properties: str) -> str:
    """gfx942 from a topology node's "gfx_target_version 90402"; "" for a CPU node."""
    match = re.search(r"^gfx_target_version (\d+)$", properties, re.MULTILINE)
    version = int(match[1]) if match else 0
    major, minor, step = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{step:x}" if version else ""


def _tools() -> Iterator[Check]:
    for names, what in (
        (("amd-smi", "rocm-smi"), "GPU management"),
        (("llvm-objdump-19",), "LLVM 19 (tests)"),
    ):
        paths = [path for path in map(shutil.which, names) if path]
        detail = ", ".join(paths) or f"{' and '.join(names)} not on PATH; not needed to build or emulate"
        yield Check(what, "ok" if paths else "absent", detail)


def _driver() -> Check:
    """The ROCm driver library a launch would load."""
    rocm = os.environ.get("ROCM_PATH", "/opt/rocm")
    found = sorted(Path(rocm, "lib").glob(f"{DRIVER}*"))[:1]
    if not found:
        found = [Path(path) for path in _known_to_linker()][:1]
    if not found:
        return Check("driver", "absent", f"no {DRIVER}: ROCm is not installed", "kernels run on the emulator")
    return Check("driver", "ok", f"{found[0]} -> {found[0].resolve().name}")


def _known_to_linker() -> list[str]:
    ldconfig = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if ldconfig is None:
        return []
    listing = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout
    return re.findall(rf"^\s*{re.escape(DRIVER)}\S* .*=> (\S+)$", listing, re.MULTILINE)


def _extra(name: str) -> str:
    """What to give pip for one of our extras: the checkout that this runs from, or the package."""
    return f"-e '.[{name}]'" if CHECKOUT.is_file() else f"'petitgen[{name}]'"


def _package(name: str, advice: str) -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "absent", "not installed", advice)
