"""Tables of measured choices: what is read and refused, what goes before what, and what select makes of it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from runtime import tuned
from runtime.errors import TunedTableError
from runtime.manifest import Kernel, parse
from runtime.select import Problem, choose
from runtime.tuned import Row, Table
from tests.runtime.manifests import kernel, manifest

HEADER = "arch,cu_num,contract,m,n,k,kernel,slices,us,measured\n"
SMALL, TALL = (f"gemm_nvfp4_bf16__gfx942_m{m}n64k64_w1x4x1" for m in (16, 256))


def kernels() -> list[Kernel]:
    return list(parse(manifest(kernel(16, 64, split=True), kernel(256, 64, split=True))).kernels.values())


def problem(m: int, n: int = 8192, k: int = 4096) -> Problem:
    return Problem("gemm_nvfp4_bf16", m, n, k, k, n)


def row(m: int, name: str = SMALL, slices: int = 1, n: int = 8192, us: float = 10.0, **other: Any) -> Row:
    facts = {"arch": "gfx942", "cu_num": 304, "contract": "gemm_nvfp4_bf16", "k": 4096, "measured": "model", **other}
    return Row(m=m, n=n, kernel=name, slices=slices, us=us, **facts)


def table(*rows: Row) -> Table:
    return Table(rows, "gfx942", 304)


# ---- what select makes of it ------------------------------------------------------------------------
def chosen(m: int, *rows: Row, n: int = 8192) -> tuple[str, int] | None:
    """(kernel, slices) if they come from the table, else None."""
    found = choose(kernels(), problem(m, n), "gfx942", 304, table(*rows))
    return (found.kernel.name, found.slices) if found.why.startswith("tuned on the") else None


def test_the_row_of_the_very_problem_is_taken_against_any_estimate():
    assert chosen(16, row(16, TALL, 3)) == (TALL, 3)
    assert chosen(16, row(16, SMALL, 5), row(32, TALL, 3)) == (SMALL, 5)
    why = choose(kernels(), problem(16), "gfx942", 304, table(row(16, TALL, 3, us=12.345))).why
    assert "tuned on the model: 12.3" in why
    assert "m=16 (tuned table of gfx942 with 304 CUs)" in why


def test_between_rows_the_next_larger_counts_up_to_four_times():
    rows = row(16, SMALL, 5), row(64, TALL, 3)
    assert chosen(17, *rows) == (TALL, 3)
    assert chosen(4, *rows) == (SMALL, 5)
    assert chosen(3, *rows) is None


def test_beyond_the_last_row_it_counts_if_it_fills_the_device():
    # 4096 rows of 8192 columns in tiles of 256 x 64: 2048 workgroups for 304 compute units
    assert chosen(100_000, row(4096, TALL)) == (TALL, 1)
    # 16 of them
    assert chosen(100_000, row(4096, TALL, n=64), n=64) is None
    # slices: more rows will not want them
    assert chosen(100_000, row(4096, TALL, 2)) is None


@pytest.mark.parametrize(
    "other",
    [{"arch": "gfx90a"}, {"cu_num": 38}, {"contract": "gemm_nvfp4_fp16"}, {"n": 8208}, {"k": 4112}],
    ids=lambda facts: next(iter(facts)),
)
def test_rows_of_other_devices_and_problems_do_not_count(other: dict[str, Any]):
    assert chosen(16, row(16, TALL, **other)) is None
    assert chosen(16, row(16, TALL, **other), row(16, SMALL)) == (SMALL, 1)


def test_a_miss_is_said_once_for_a_weight(caplog: pytest.LogCaptureFixture):
    known = table(row(16))
    with caplog.at_level(logging.INFO):
        for m in (16, 64, 512, 4096):
            choose(kernels(), problem(m), "gfx942", 304, known)
        assert [r.message for r in caplog.records if "m=64" in r.message] == [r.message for r in caplog.records]
        assert "nothing for gemm_nvfp4_bf16 n=8192 k=4096 near m=64" in caplog.text
        choose(kernels(), problem(16, 1024), "gfx942", 304, known)
    assert len(caplog.records) == 2
    assert "n=1024" in caplog.records[1].message


def test_a_kernel_that_is_not_built_is_passed_over_and_said_once(caplog: pytest.LogCaptureFixture):
    known = table(row(16, "gemm_nvfp4_bf16__gfx942_m16n64k9_w1x1x1"), row(32, TALL, 2), row(16, n=64))
    with caplog.at_level(logging.INFO):
        for m in (16, 15, 16):
            found = choose(kernels(), problem(m), "gfx942", 304, known)
            assert (found.kernel.name, found.slices) == (TALL, 2)
    assert len(caplog.records) == 1
    assert "names gemm_nvfp4_bf16__gfx942_m16n64k9_w1x1x1, which is not built" in caplog.text


def test_a_row_that_the_kernel_refuses_is_passed_over():
    strict = parse(manifest(kernel(16, 64, constraints={"k_multiple": 8192}), kernel(256, 64))).kernels.values()
    found = choose(strict, problem(16), "gfx942", 304, table(row(16, SMALL), row(32, TALL)))
    assert found.kernel.name == TALL
    single = parse(manifest(kernel(16, 64), kernel(256, 64))).kernels.values()  # its workgroups cannot share a tile
    assert choose(single, problem(16), "gfx942", 304, table(row(16, SMALL, 2), row(32, TALL))).kernel.name == TALL


@pytest.mark.parametrize(
    "useless",
    [row(16, "gemm_nvfp4_bf16__gfx942_m16n64k9_w1x1x1"), row(16, TALL, 100_000)],
    ids=["not built", "too many slices"],
)
def test_a_useless_row_hides_no_other_of_the_same_problem(useless: Row, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert chosen(16, row(16, SMALL, 5), row(32, TALL), useless) == (SMALL, 5)
    assert len(caplog.records) == 1
    assert "passed over" in caplog.text
    assert chosen(16, useless, row(16, TALL, 3)) == (TALL, 3)


# ---- files ------------------------------------------------------------------------------------------
def test_a_mark_of_byte_order_is_no_part_of_the_columns(tmp_path: Path):
    (tmp_path / "t.csv").write_text(f"{HEADER}gfx942,304,gemm_nvfp4_bf16,16,8192,4096,{SMALL},1,10,model\n", "utf-8-sig")
    assert tuned.read(tmp_path / "t.csv") == [row(16)]


def test_what_is_written_is_read_again(tmp_path: Path):
    rows = [row(64, us=1 / 3), row(16), row(16, cu_num=38), row(16, arch="gfx90a", measured="device")]
    tuned.write(tmp_path / "new" / "gfx942.csv", rows)
    text = (tmp_path / "new" / "gfx942.csv").read_text()
    assert text.splitlines()[0] + "\n" == HEADER
    assert text.splitlines()[1] == f"gfx90a,304,gemm_nvfp4_bf16,16,8192,4096,{SMALL},1,10,device"
    again = tuned.read(tmp_path / "new" / "gfx942.csv")
    assert [(one.arch, one.cu_num, one.m) for one in again] == [
        ("gfx90a", 304, 16),
        ("gfx942", 38, 16),
        ("gfx942", 304, 16),
        ("gfx942", 304, 64),
    ]
    assert again[-1].us == pytest.approx(1 / 3, rel=1e-5)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["gfx942.csv"]


def test_what_the_user_names_goes_before_the_package_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package, folder, file = tmp_path / "package.csv", tmp_path / "folder", tmp_path / "one.csv"
    tuned.write(package, [row(m, slices=1) for m in (16, 32, 64)])
    tuned.write(folder / "gfx942.csv", [row(m, slices=2) for m in (16, 32)])
    tuned.write(file, [row(16, slices=3)])
    monkeypatch.setattr(tuned, "packaged", lambda arch: package)

    def slices() -> list[int]:
        first: dict[int, int] = {}
        for one in tuned.load("gfx942", 304).rows("gemm_nvfp4_bf16", 8192, 4096):
            first.setdefault(one.m, one.slices)
        return list(first.values())

    monkeypatch.delenv("PETITGEN_TUNED", raising=False)
    assert slices() == [1, 1, 1]
    monkeypatch.setenv("PETITGEN_TUNED", f"{file}:{folder}")
    assert slices() == [3, 2, 1]
    monkeypatch.setenv("PETITGEN_TUNED", f"{folder}:{file}")
    assert slices() == [2, 2, 1]
    assert tuned.load("gfx90a", 104).rows("gemm_nvfp4_bf16", 8192, 4096) == []
    tuned.write(file, [row(16, slices=4, measured="virtual")])
    monkeypatch.setenv("PETITGEN_TUNED", str(file))
    assert slices() == [1, 1, 1]
    assert next(one.slices for one in tuned.load("gfx942", 304, virtual=True).rows("gemm_nvfp4_bf16", 8192, 4096)) == 4
    monkeypatch.setenv("PETITGEN_TUNED", str(tmp_path / "none"))
    with pytest.raises(TunedTableError, match=r"none: named in \$PETITGEN_TUNED, but not there"):
        tuned.load("gfx942", 304)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("gfx942,304,gemm_nvfp4_bf16,16,8192,4096,name,1,10", r":2: .*not enough values to unpack"),
        ("gfx942,304,gemm_nvfp4_bf16,16,8192,4096,name,1,10,model,more", r":2: .*too many values to unpack"),
        ("gfx942,many,gemm_nvfp4_bf16,16,8192,4096,name,1,10,model", r":2: .*invalid literal for int.*'many'"),
        ("gfx942,304,gemm_nvfp4_bf16,16,8192,4096,name,0,10,model", ":2: .*numbers start at 1"),
        ("gfx942,304,gemm_nvfp4_bf16,16,8192,4096,name,1,nan,model", ":2: .*times above 0"),
        (
            "gfx942,304,gemm_nvfp4_bf16,16,8192,4096,name,1,10,guess",
            ":2: measured is 'guess': one of model, device, virtual",
        ),
    ],
)
def test_damaged_lines_are_refused_with_their_place(tmp_path: Path, line: str, message: str):
    path = tmp_path / "t.csv"
    path.write_text(HEADER + line + "\n")
    with pytest.raises(TunedTableError, match=message):
        tuned.read(path)


def test_files_that_are_no_tables_are_refused(tmp_path: Path):
    path = tmp_path / "t.csv"
    for text in ("", "gfx,cu_num,M,N,K\n"):
        path.write_text(text)
        with pytest.raises(TunedTableError, match=r"t\.csv:1: the columns have to be arch,cu_num,contract,m,n,k"):
            tuned.read(path)
    path.write_bytes(HEADER.encode() + b"\xff\xfe,\n")
    with pytest.raises(TunedTableError, match="cannot be read"):
        tuned.read(path)
    with pytest.raises(TunedTableError, match="cannot be read"):
        tuned.read(tmp_path)


def test_ten_thousand_rows_are_read_in_no_time(tmp_path: Path):
    path = tmp_path / "t.csv"
    tuned.write(path, [row(m, n=16 * n) for m in range(1, 101) for n in range(1, 101)])
    start = time.process_time()
    known = Table(tuned.read(path), "gfx942", 304)
    assert time.process_time() - start < 1  # some 0.05 s
    assert len(known.rows("gemm_nvfp4_bf16", 1600, 4096)) == 100


def test_the_packaged_tables_are_good():
    """Every row names a kernel that the specs build, with slices that it takes."""
    from petitgen.spec import load_catalog

    names = {instance.name for instance in load_catalog().instances}
    for arch in ("gfx90a", "gfx942"):
        path = tuned.packaged(arch)
        rows = tuned.read(path) if path.is_file() else []
        assert [one for one in rows if one.arch != arch or one.kernel not in names] == []
        assert len({one.problem for one in rows}) == len(rows)
