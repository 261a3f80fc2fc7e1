"""`petitgen virtual`: what it says about options that cannot be right, before anything is started. No compiler here."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from petitgen.cli import main
from petitgen.driver.activate import environment
from petitgen.errors import DriverError


def refused(*options: str) -> str:
    """The one line on standard error. Were the options accepted, it would be about the program, and no test be replaced by it."""
    result = CliRunner().invoke(main, ["virtual", *options, "--", "no-such-program"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    "text", ["banana", "0", "-1", "nan", "inf", "", "8GiB", "1e30", "5T", "0.0001", "1G,2G", "8 G"]
)
def test_memory_that_is_no_size(text: str) -> None:
    line = refused("--memory", text)
    assert repr(text) in line
    assert "8G" in line
    with pytest.raises(DriverError, match="bytes of each device"):
        environment(["gfx942"], text)


@pytest.mark.parametrize("text", ["8G", "512m", "1.5G", ".5T", "4T", "65536", "1"])
def test_memory_that_is_a_size_is_passed_on(text: str) -> None:
    assert environment(["gfx942"], text)["PETITGEN_VIRTUAL_MEMORY"] == text


def test_a_log_where_none_can_be_written(tmp_path: Path) -> None:
    line = refused("--log", str(tmp_path / "no such directory" / "log"))
    assert "no such directory" in line
    assert "cannot be written" in line
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused("--log", str(tmp_path / "file" / "log"))
