"""What a stopped kernel's message says of the place: source line, function, instruction, waves and lanes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from petitgen.emulator import launch
from petitgen.errors import EmulationError
from petitgen.isa import CodeObject
from petitgen.toolchain import choose
from petitgen.toolchain.flags import compile_flags

SOURCE = """\
#define KERNEL extern "C" __attribute__((global)) void
extern "C" __attribute__((device, noinline)) int fetch(const int *from) {
  return *(volatile const int *)from;
}
KERNEL gather(const int *in, int *out, const int *where) {
  int i = __builtin_amdgcn_workitem_id_x();
  out[i] = fetch(in + where[i]);
}
KERNEL trap() {
  __builtin_trap();
}
KERNEL forever(volatile int *out) {
  for (;;) *out = 1;
}
"""


@pytest.fixture(scope="module", params=["gfx90a", "gfx942"])
def code(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CodeObject:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.hip").write_text(SOURCE)
    flags = [*compile_flags(request.param), "-gline-tables-only", "faults.hip", "-o", "faults.hsaco"]
    status, text = choose(request.param, "ziglang").selected.run(flags, cwd=folder)
    assert status == 0, text
    return CodeObject.load(Path(folder / "faults.hsaco"))


@pytest.mark.compiler
def test_a_function_that_is_called_is_named_with_its_line(code: CodeObject) -> None:
    where, wrong = np.arange(256, dtype=np.int32), [64 + 3, 64 + 40, 128]
    where[wrong] = 1 << 20
    values, out = np.zeros(256, np.int32), np.zeros(256, np.int32)
    with pytest.raises(EmulationError) as caught:
        launch(code, "gather", 1, 256, [values, out, where])
    found = re.match(
        r"faults.hip:3: fetch\+0x(\w+) `(\w+)_load_dword .*` \([0-9a-f ]+, pc 0x(\w+)\), wave 1 of workgroup 0, "
        r"lanes 0x(\w{16}) \(and in 1 other wave\), first lane 3: 4 bytes at address",
        str(caught.value),
    )
    assert found, caught.value
    (function,) = (f for f in code.functions if f.name == "fetch")
    assert int(found[3], 16) - int(found[1], 16) == function.address
    assert int(found[4], 16) == 1 << 3 | 1 << 40


@pytest.mark.compiler
def test_a_trap_and_an_endless_loop_are_placed(code: CodeObject) -> None:
    with pytest.raises(EmulationError, match=r"^faults.hip:10: trap\+0x\w+ `s_trap 2` \(bf920002, pc .*wave 0 of workgroup 0: "):
        launch(code, "trap", 1, 64, [])
    with pytest.raises(EmulationError, match=r"last at faults.hip:13: forever\+0x\w+; endless loop\?"):
        launch(code, "forever", 1, 64, [np.zeros(1, np.int32)], limit=1000)
