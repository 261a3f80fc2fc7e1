"""Which problems to tune: real models' weights, N,K on the command line, or a file of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from petitgen.errors import TuneError
from petitgen.tune.shapes import MODELS, RANKS, weights


def parse_weights(texts: Sequence[str], models: Sequence[str] = (), ranks: Sequence[int] = ()) -> list[tuple[int, int]]:
    """(N, K) of each weight, each once. texts: "N,K", or files with one of these a line (# begins a comment).

    No texts: the weights of `models` (none: all that petitgen.tune.shapes knows) at these numbers of ranks (none: 1, 2,
    4, 8). TuneError for what is no shape, no file or no model.
    """
    found = [shape for text in texts for shape in _shapes(text)]
    if models or ranks or not texts:
        for name in models:
            if name not in MODELS:
                raise TuneError(f"no model {name!r}; known are {', '.join(MODELS)}; or give --shapes N,K")
        for name in models or MODELS:
            for count in ranks:
                if not MODELS[name].splits(count):
                    raise TuneError(f"{name} does not divide among {count} ranks: give a number that divides its heads")
        found += [(weight.n, weight.k) for weight in weights(models or tuple(MODELS), ranks or RANKS)]
    return list(dict.fromkeys(found))


def _shapes(text: str) -> list[tuple[int, int]]:
    if Path(text).is_file():
        lines = [line.partition("#")[0].strip() for line in Path(text).read_text(encoding="utf-8").splitlines()]
        return [_shape(line, f"{text}:{number}: ") for number, line in enumerate(lines, 1) if line]
    return [_shape(text, "")]


def _shape(text: str, place: str) -> tuple[int, int]:
    parts = text.replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise TuneError(f"{place}{text!r} is no weight: N,K is needed, as in 8192,28672, or a file of such lines")
    return int(parts[0]), int(parts[1])


def parse_rows(texts: Sequence[str], default: Sequence[int]) -> tuple[int, ...]:
    """Numbers of rows from "1,2,4" and the like, each once, ascending. TuneError for what is none."""
    found = set()
    for text in texts:
        for part in text.split(","):
            if not part.strip().isdecimal() or int(part) < 1:
                raise TuneError(f"-m {text}: numbers of rows are needed, from 1, as in 1,16,256")
            found.add(int(part))
    return tuple(sorted(found or default))
