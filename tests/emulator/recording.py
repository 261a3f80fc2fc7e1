"""Which instructions the tests execute, written to petitgen/emulator/tested.json for `emulate --coverage`.

    PETITGEN_RECORD=1 python -m pytest tests/emulator -m "not llvm and not compiler"

Only tests whose results do not depend on a compiler count, and only those that hold results against an
expectation. A test that is named in the file fails when it no longer executes what the file says of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petitgen.emulator import coverage, mfma, registry
from petitgen.emulator.scheduler import Scheduler

FILE = Path(coverage.__file__).with_name(coverage.RECORD)
FOLDER = "tests/emulator/"
# These look at instructions without holding their results against anything.
UNCOUNTED = ("sanitizer/", "test_coverage.py", "test_valu_table.py", "test_assembled.py")
MARKS = ("compiler", "llvm", "mmasim", "slow")


class Recorder:
    """What the running test has executed (whole instructions) and computed (functions of ops) so far."""

    def __init__(self) -> None:
        self.executed: set[str] = set()
        self.computed: set[str] = set()
        self.tests: dict[str, dict[str, list[str]]] = {"executed": {}, "computed": {}}

    def install(self) -> None:
        """Watch scheduler, registry and matrix instructions, before test modules import them by name."""
        run, lookup, multiply = Scheduler.run, registry.lookup, mfma.mfma

        def watched_run(scheduler: Scheduler, *args: Any, **options: Any) -> None:
            run(scheduler, *args, **options)
            for pc in scheduler.visits:
                for ins, _ in scheduler.program.blocks[pc].instructions:
                    self.executed.add(f"{ins.arch} {ins.encoding} {ins.mnemonic}")

        def watched_lookup(mnemonic: str) -> registry.Op:
            found = lookup(mnemonic)
            self.computed.add(mnemonic)
            return found

        def watched_mfma(mnemonic: str, arch: str, *args: Any, **options: Any) -> Any:
            result = multiply(mnemonic, arch, *args, **options)
            self.executed.add(f"{arch} MAI {mnemonic}")
            return result

        _replace(Scheduler, "run", watched_run)
        _replace(registry, "lookup", watched_lookup)
        _replace(mfma, "mfma", watched_mfma)

    def begin(self) -> None:
        """A test begins."""
        self.executed.clear()
        self.computed.clear()

    def passed(self, item: pytest.Item) -> None:
        """A test has passed: it must have executed what the record says of it."""
        name = item.nodeid.removeprefix(FOLDER)
        if name.startswith(UNCOUNTED) or any(item.get_closest_marker(mark) for mark in MARKS):
            return
        for kind, seen in (("executed", self.executed), ("computed", self.computed)):
            for key in seen:
                self.tests[kind].setdefault(key, []).append(name)
            missed = recorded(kind, name) - seen
            if missed and not RECORDING:
                pytest.fail(
                    f"{FILE.name} says that this test has {kind} {', '.join(sorted(missed))}; it has not. "
                    "Record again: PETITGEN_RECORD=1 python -m pytest tests/emulator"
                )

    def write(self) -> None:
        """Name one test for each instruction: the most specific, which executes the fewest."""
        size = {kind: _sizes(tests) for kind, tests in self.tests.items()}
        data = {
            kind: {
                key: min(names, key=lambda name: (size[kind][name], name))
                for key, names in sorted(tests.items())
            }
            for kind, tests in self.tests.items()
        }
        FILE.write_text(json.dumps(data, indent=0) + "\n")


RECORDING = bool(os.environ.get("PETITGEN_RECORD"))


def recorded(kind: str, test: str) -> set[str]:
    """What the file says of a test."""
    return {key for key, name in coverage.tested()[kind].items() if name == test}


def _sizes(tests: dict[str, list[str]]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for names in tests.values():
        for name in names:
            sizes[name] = sizes.get(name, 0) + 1
    return sizes


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    function.__doc__ = getattr(owner, name).__doc__
    setattr(owner, name, function)
