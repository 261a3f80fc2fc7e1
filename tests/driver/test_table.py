"""The table of served calls, the C made from it, and what the driver says where it cannot be made. No compiler here."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from petitgen.driver import build, table
from petitgen.driver.table import exports_header, exports_source, served, unserved
from petitgen.errors import DriverError


def test_a_call_is_served_or_not() -> None:
    names = [call.name for call in served()]
    assert len(names) > 150
    assert len({*names, *unserved()}) == len(names) + len(unserved())


def test_each_call_becomes_one_exported_function_that_passes_its_arguments_on() -> None:
    source = exports_source()
    for name in [*(call.name for call in served()), *unserved()]:
        assert len(re.findall(rf"^EXPORT hipError_t {name}\(", source, re.M)) == 1, name
    assert "serve_hipMemset(to, value, size)" in source
    assert "serve_hipDeviceSynchronize()" in source
    assert '{"hipFree", CALL_CLEANUP}' in source
    assert "hipError_t serve_hipMemset(void *to, int value, size_t size);" in exports_header()


@pytest.mark.parametrize(
    "line", ["hipMalloc(void **at)", "swift hipMalloc(void **at)", "- hipMalloc", "- hipMalloc(void **)"]
)
def test_a_wrong_line_is_named(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "functions.table").write_text(f"# a comment\n{line}\n")
    monkeypatch.setattr(table, "SHIM", tmp_path)
    with pytest.raises(DriverError, match=r"functions\.table"):
        [call.arguments for call in served.__wrapped__()]


def test_without_a_compiler_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DriverError, match="pip install ziglang"):
        build.library()


def test_the_base_of_device_memory_is_stated_alike_in_c_and_python() -> None:
    from petitgen.emulator.memory import BASE

    stated = re.search(r"#define ARENA_BASE (0x[0-9a-f]+)ull", (build.SHIM / "virtual.h").read_text())
    assert stated is not None
    assert int(stated[1], 16) == BASE
