"""The worked example of docs/emulator.md, run as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from petitgen.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text()
EXAMPLE = PAGE.partition("## A wait that is missing")[2].partition("\n## ")[0]
BAD, GOOD = '"global_load_dword %0, %1, off"', r'"global_load_dword %0, %1, off\n\ts_waitcnt vmcnt(0)"'


def commands() -> list[list[str]]:
    """The command lines after a $, continued ones joined."""
    text = EXAMPLE.replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    \$ (.*)$", text, re.MULTILINE)]


def printed() -> list[str]:
    """What the page says is printed, but for the time it took."""
    block = re.findall(r"(?:^(?:    .*)?\n)+", EXAMPLE, re.MULTILINE)
    lines = max(block, key=len).splitlines()
    last = max(i for i, line in enumerate(lines) if "--arg" in line)
    return _timeless("\n".join(line[4:] for line in lines[last + 1 :]))


def _timeless(text: str) -> list[str]:
    return re.sub(r"in \d+\.\d+ s", "in a moment", text.strip()).splitlines()


@pytest.mark.llvm
def test_the_missing_wait_is_found_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r"```cpp\n(.*?)```", EXAMPLE, re.DOTALL)
    compiling, emulating = commands()
    assert (compiling[0], emulating[:2]) == ("clang-19", ["petitgen", "emulate"])
    for text, status in ((source, 1), (source.replace(BAD, GOOD), 0)):
        Path("twice.hip").write_text(text)
        subprocess.run(compiling, check=True)
        result = CliRunner().invoke(main, emulating[1:])
        assert result.exit_code == status, result.output
        if status:
            assert _timeless(result.output) == printed()
        else:
            assert result.output.splitlines()[-1] == "no findings"
    assert BAD in source
    assert GOOD in EXAMPLE
