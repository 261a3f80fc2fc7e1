"""How long a person waits for the generator, each against its limit; exit status 1 if one is over it.

python benchmarks/waits.py [--hipcc ziglang]

import       `import petitgen.cli`, which --help and shell completion wait for
rebuild      `petitgen build` of the whole matrix with nothing to do, compilers tried included
disassemble  `petitgen inspect --asm` of the kernel with the most code

The best of several runs, a process each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_SECONDS = {"import": 0.2, "rebuild": 2.0, "disassemble": 2.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hipcc", help="as for petitgen build")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as generated:
        command = [sys.executable, "-m", "petitgen.cli", "build", "--generated", generated]
        command += ["--hipcc", args.hipcc] if args.hipcc else []
        print(run(command).splitlines()[-1])
        largest = max(Path(generated).glob("*/*.hsaco"), key=lambda path: path.stat().st_size).stem
        inspect = [sys.executable, "-m", "petitgen.cli", "inspect", largest, "--asm", "--generated", generated]
        waits = {
            "import": [sys.executable, "-c", "import petitgen.cli"],
            "rebuild": command,
            "disassemble": inspect,
        }
        seconds = {name: min(_seconds(one) for _ in range(args.runs)) for name, one in waits.items()}
    for name, taken in seconds.items():
        print(f"{name:12} {taken:6.3f} s, limit {LIMIT_SECONDS[name]} s")
    return any(taken >= LIMIT_SECONDS[name] for name, taken in seconds.items())


def run(command: list[str]) -> str:
    """What it prints. CalledProcessError if it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    run(command)
    return time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())
