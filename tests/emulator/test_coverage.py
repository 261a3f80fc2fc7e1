"""`petitgen emulate --coverage`: what it says must be so."""

from __future__ import annotations

import ast
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from petitgen.emulator import coverage, registry
from petitgen.emulator.program import compile_step
from petitgen.errors import EmulationError
from petitgen.isa.formats import ARCHS
from petitgen.isa.forms import form_table

from .assembled import Machine
from .recording import RECORDING

FOLDER = Path(__file__).parent
ENTRIES = {arch: list(coverage.coverage(arch)) for arch in ARCHS}
EMPTY: coverage.Record = {"executed": {}, "computed": {}}


def state(arch: str, name: str, record: coverage.Record | None = None) -> str:
    """The state of the form that the assembler calls `name`."""
    (found,) = {entry.state for entry in coverage.coverage(arch, record) if entry.name == name}
    return found


@pytest.mark.parametrize("arch", ARCHS)
def test_every_form_of_the_tables_is_counted_once(arch: str) -> None:
    counted = Counter((entry.encoding, entry.name) for entry in ENTRIES[arch])
    assert counted == Counter((form.encoding, form.name) for form in form_table(arch).values())
    assert {entry.state for entry in ENTRIES[arch]} <= {"tested", "implemented", "missing", "excluded"}


@pytest.mark.parametrize("arch", ARCHS)
def test_samples_are_instructions_of_their_form(arch: str) -> None:
    for key, form in form_table(arch).items():
        ins = next(coverage.samples(key, form, arch))
        assert (ins.mnemonic, ins.encoding) == (form.row.mnemonic, form.encoding)


@pytest.mark.parametrize("arch", ARCHS)
def test_what_is_missing_really_stops(arch: str) -> None:
    """The first missing instruction of each format, executed: an error that names it with its bytes."""
    missing = {entry.encoding: entry for entry in ENTRIES[arch] if entry.state == "missing"}
    forms = {(form.encoding, form.name): (key, form) for key, form in form_table(arch).items()}
    for encoding, entry in missing.items():
        ins = next(coverage.samples(*forms[encoding, entry.name], arch))
        machine = Machine(arch)
        step = compile_step(ins)
        assert step is not None
        with pytest.raises(EmulationError) as caught:
            step(machine.batch.group(machine.batch.wave_id))
        assert entry.mnemonic in str(caught.value)
        assert f"{ins.raw[0]:08x}" in str(caught.value)


def test_an_operation_taken_away_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`implemented` is asked of the executor: without its op v_add_f32 is no longer there, in any form."""
    assert state("gfx942", "v_add_f32_sdwa") != "missing"
    monkeypatch.delitem(registry.OPS, "v_add_f32")
    assert {state("gfx942", f"v_add_f32_{form}") for form in ("e32", "e64", "sdwa", "dpp")} == {"missing"}
    assert state("gfx942", "v_sub_f32_e32") != "missing"


def test_tested_follows_the_record() -> None:
    assert state("gfx942", "v_add_f32_e32", EMPTY) == "implemented"
    executed: coverage.Record = {"executed": {"gfx942 VOP2 v_add_f32": "t"}, "computed": {}}
    assert state("gfx942", "v_add_f32_e32", executed) == "tested"
    assert state("gfx942", "v_add_f32_e64", executed) == "implemented"
    assert state("gfx90a", "v_add_f32_e32", executed) == "implemented"


def test_a_computed_operation_counts_where_its_encoding_is_executed() -> None:
    record: coverage.Record = {"executed": {"gfx942 SDWA v_sub_f32": "t"}, "computed": {"v_add_f32": "t"}}
    assert state("gfx942", "v_add_f32_sdwa", record) == "tested"
    assert state("gfx942", "v_add_f32_dpp", record) == "implemented"


def test_exclusions_have_a_reason_and_exist() -> None:
    mnemonics = {entry.mnemonic for entries in ENTRIES.values() for entry in entries}
    for glob, reason in coverage.EXCLUDED:
        assert any(fnmatchcase(mnemonic, glob) for mnemonic in mnemonics), glob
        assert reason


@pytest.mark.skipif(RECORDING, reason="the record is about to be written")
def test_every_test_in_the_record_exists() -> None:
    """By file and function; a test that runs is held against the record by the conftest."""
    named = {test.partition("[")[0] for tests in coverage.tested().values() for test in tests.values()}
    assert named
    functions: dict[str, set[str]] = {}
    for test in named:
        file, _, name = test.partition("::")
        if file not in functions:
            tree = ast.parse((FOLDER / file).read_text())
            functions[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name.rpartition("::")[2] in functions[file], f"{test}: not there; {_again()}"


@pytest.mark.skipif(RECORDING, reason="the record is about to be written")
def test_every_instruction_in_the_record_exists() -> None:
    known = {f"{e.arch} {e.encoding} {e.mnemonic}" for entries in ENTRIES.values() for e in entries}
    assert set(coverage.tested()["executed"]) <= known, _again()


def _again() -> str:
    return "record again: PETITGEN_RECORD=1 python -m pytest tests/emulator"
