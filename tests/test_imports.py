"""One-way dependencies: the last column of the table in docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# package -> the packages of ours it may import; those in COMMON are everybody's
ALLOWED = {
    "runtime": {"petitgen.driver", "petitgen.errors"},  # when the virtual GPU is asked for, see below
    "petitgen/isa": set(),
    "petitgen/emulator": {"petitgen.isa"},
    "petitgen/spec": {"runtime.formats"},
    "petitgen/render": {"petitgen.spec", "runtime.formats", "runtime.conversions", "runtime.epilogue"},
    "petitgen/toolchain": {"petitgen.isa"},
    "petitgen/build": {"petitgen.spec", "petitgen.render", "petitgen.toolchain", "petitgen.isa", "runtime"},
    "petitgen/driver": {"petitgen.emulator", "petitgen.isa", "petitgen.toolchain"},
    "petitgen/profiler": {"petitgen.emulator", "petitgen.isa", "petitgen.spec", "runtime"},
    "petitgen/tune": {"petitgen.spec", "petitgen.profiler", "runtime"},
    "petitgen/verify": {
        "petitgen.spec",
        "petitgen.emulator",
        "petitgen.isa",
        "petitgen.build",
        "petitgen.cli",
        "runtime",
    },
}
COMMON = {"petitgen", "petitgen.errors", "petitgen.executors", "petitgen.names", "petitgen.paths"}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} if node.module != "petitgen" else {f"petitgen.{a.name}" for a in node.names}
    return {name for name in found if name.split(".")[0] in ("petitgen", "runtime")}


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str):
    own = package.replace("/", ".")
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        wrong = {
            name
            for name in imported(path)
            if not within(name, ALLOWED[package] | {own}) and not (name in COMMON and package != "runtime")
        }
        wrong -= {"petitgen.__version__"}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


def test_every_package_is_in_the_table():
    packages = {f"petitgen/{p.parent.name}" for p in (ROOT / "petitgen").glob("*/__init__.py")}
    assert packages - set(ALLOWED) == {"petitgen/cli"}


def runtime_imports() -> list[tuple[str, str, bool]]:
    """(module, what it imports, whether that happens when it is itself imported)."""
    found = []
    for path in (ROOT / "runtime").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [(path.name, alias.name, node in tree.body) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found.append((path.name, node.module or "", node in tree.body))
    return found


def test_the_runtime_needs_petitgen_for_the_virtual_gpu_only():
    users = {(module, at_once) for module, name, at_once in runtime_imports() if name.split(".")[0] == "petitgen"}
    assert users == {("hip.py", False)}


def test_only_one_module_of_the_runtime_may_import_hip():
    assert {module for module, name, _ in runtime_imports() if name.split(".")[0] in ("hip", "rocm")} == {"hip.py"}
