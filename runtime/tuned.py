"""Tables of measured choices: which kernel, in how many slices, was the fastest for a problem on a device.

One CSV file an architecture, <arch>.csv, a line a problem:

    arch,cu_num,contract,m,n,k,kernel,slices,us,measured
    gfx942,304,gemm_nvfp4_bf16,16,8192,8192,gemm_nvfp4_bf16__gfx942_m16n128k512_w1x4x1,8,13.5233,model

cu_num is the number of compute units of the device, us the time in microseconds, and measured what took it: the timing
model ("model"), a device ("device") or the virtual GPU ("virtual": times that mean nothing, for tests). `petitgen tune`
writes them. Those that come with the package are in
configs/tuned/; files or folders named in $PETITGEN_TUNED (several with ":") go before them, the first before the
others, problem by problem.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Hashable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from runtime.errors import TunedTableError

VARIABLE = "PETITGEN_TUNED"
MEASURED = ("model", "device", "virtual")
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One line: `slices` workgroups a tile of `kernel` took `us` microseconds for C[m, n] = A[m, k] x W[n, k]^T."""

    arch: str
    cu_num: int
    contract: str
    m: int
    n: int
    k: int
    kernel: str
    slices: int
    us: float
    measured: str

    @property
    def problem(self) -> tuple[str, int, str, int, int, int]:
        """What it is the answer to."""
        return self.arch, self.cu_num, self.contract, self.m, self.n, self.k

    def __str__(self) -> str:
        device = "virtual device" if self.measured == "virtual" else self.measured
        return f"tuned on the {device}: {self.us:.2f} us at m={self.m}"


COLUMNS = tuple(field.name for field in fields(Row))


class Table:
    """The rows for one architecture and number of compute units.

    name  what it is called in what select says
    """

    def __init__(self, rows: Iterable[Row], arch: str, compute_units: int) -> None:
        """rows: of any device, the later before the earlier."""
        self.name = f"tuned table of {arch} with {compute_units} CUs"
        self._rows: dict[tuple[str, int, int], list[Row]] = {}
        of_device = [row for row in rows if row.cu_num == compute_units and row.arch == arch]
        of_device.reverse()
        for row in sorted(of_device, key=lambda row: row.m):  # a stable sort: the more important stay in front
            self._rows.setdefault((row.contract, row.n, row.k), []).append(row)
        self._said: set[Hashable] = set()

    def rows(self, contract: str, n: int, k: int) -> list[Row]:
        """Those of a weight, by number of rows; of the same number, the most important first: it may name a kernel that
        is not there, or not for this problem."""
        return self._rows.get((contract, n, k), [])

    def once(self, log: logging.Logger, message: str, about: Hashable = None) -> None:
        """Log a message, the first time only. about: what counts as the same; None: the same words."""
        key = about or message
        if key not in self._said:
            self._said.add(key)
            log.info(message)

    def __str__(self) -> str:
        return self.name


def load(arch: str, compute_units: int, virtual: bool = False) -> Table:
    """The table for a device: what $PETITGEN_TUNED names over what comes with the package. TunedTableError.

    virtual: it is the virtual GPU. For other devices its times do not count.
    """
    rows: list[Row] = []
    for path in reversed(files(arch)):
        rows += (row for row in read(path) if virtual or row.measured != "virtual")
    return Table(rows, arch, compute_units)


def files(arch: str) -> list[Path]:
    """Where rows for `arch` are read from, the most important first. TunedTableError if a place named is not there."""
    named = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    found = []
    for path in named:
        if not path.exists():
            raise TunedTableError(f"{path}: named in ${VARIABLE}, but not there; petitgen tune -o {path} makes it")
        if path.is_file() or (path / f"{arch}.csv").is_file():
            found.append(path if path.is_file() else path / f"{arch}.csv")
    return found + [path for path in [packaged(arch)] if path.is_file()]


def packaged(arch: str) -> Path:
    """The table that comes with the package: inside it in a wheel, in configs/ in a checkout."""
    installed = _HERE / "_data" / "tuned"
    return (installed if installed.is_dir() else _HERE.parent / "configs" / "tuned") / f"{arch}.csv"


def read(path: Path) -> list[Row]:
    """The rows of a file, in its order. TunedTableError with file, line and what is wrong there."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a mark
            lines = csv.reader(file)
            if tuple(next(lines, ())) != COLUMNS:
                raise TunedTableError(f"{path}:1: the columns have to be {','.join(COLUMNS)}")
            return [_row(path, lines.line_num, line) for line in lines if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TunedTableError(f"{path}: cannot be read: {error}") from error


def _row(path: Path, number: int, line: list[str]) -> Row:
    try:
        arch, cu_num, contract, m, n, k, kernel, slices, us, measured = line
        row = Row(arch, int(cu_num), contract, int(m), int(n), int(k), kernel, int(slices), float(us), measured)
    except ValueError as error:
        raise TunedTableError(f"{path}:{number}: {','.join(line):.200}: {error}; mend or delete the line") from None
    if min(row.cu_num, row.m, row.n, row.k, row.slices) < 1 or not 0 < row.us < float("inf"):
        raise TunedTableError(f"{path}:{number}: {','.join(line):.200}: numbers start at 1, times above 0")
    if measured not in MEASURED:
        raise TunedTableError(f"{path}:{number}: measured is {measured!r:.60}: one of {', '.join(MEASURED)} is needed")
    return row


def write(path: Path, rows: Iterable[Row]) -> None:
    """Replace a file by these rows, sorted, in one step: who reads it has the old one or the new one. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(COLUMNS)
            for row in sorted(rows, key=lambda row: (row.arch, row.cu_num, row.contract, row.n, row.k, row.m)):
                lines.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in astuple(row)])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
