"""The matrix: every kernel that configs/ asks for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from petitgen.errors import SpecError
from petitgen.names import KernelName
from petitgen.paths import CONFIGS
from petitgen.spec import arrays
from petitgen.spec.checks import check_tile
from petitgen.spec.family import Family
from petitgen.spec.model import (
    Activations,
    Arch,
    Argument,
    Constraints,
    GemmInstance,
    KernelInstance,
    Limits,
    Tile,
    Tolerance,
    WeightMacros,
)
from petitgen.spec.reader import check, read
from runtime.formats import FORMATS

_LOAD = 16  # bytes of A that a kernel loads at once; 16 of K at least


@dataclass(frozen=True, slots=True)
class Catalog:
    """What configs/ holds: architectures by name and every kernel instance, in the order of the files."""

    archs: dict[str, Arch]
    instances: tuple[KernelInstance, ...]

    @property
    def tiled(self) -> tuple[GemmInstance, ...]:
        """Those that multiply with packed weights, tile by tile."""
        return tuple(one for one in self.instances if isinstance(one, GemmInstance))

    @property
    def gemms(self) -> tuple[GemmInstance, ...]:
        """Those of them that multiply with one weight: of M, N and K."""
        return tuple(one for one in self.tiled if not one.grouped)

    def select(self, patterns: Sequence[str] = (), arch: str | None = None) -> list[KernelInstance]:
        """Instances whose name matches any glob of `patterns` (all without one), of `arch` when given.

        SpecError for an unknown arch and for a pattern that matches nothing.
        """
        if arch is not None and arch not in self.archs:
            raise SpecError(f"unknown arch {arch!r}: known are {', '.join(self.archs)}")
        pool = [i for i in self.instances if arch in (None, i.arch.name)]
        for pattern in patterns:
            if not any(fnmatchcase(i.name, pattern) for i in pool):
                raise SpecError(f"no kernel matches {pattern!r}{self._suggest(pattern, pool)}")
        return [i for i in pool if not patterns or any(fnmatchcase(i.name, p) for p in patterns)]

    @staticmethod
    def _suggest(pattern: str, pool: list[KernelInstance]) -> str:
        close = difflib.get_close_matches(pattern.replace("*", ""), [i.name for i in pool], n=3, cutoff=0.3)
        return f"; close to it: {', '.join(close)}" if close else "; `petitgen list` shows all"


def load_catalog(configs: Path | None = None) -> Catalog:
    """Read and check everything under `configs` (default: the project's own). SpecError names file and key path."""
    root = CONFIGS if configs is None else configs
    archs = {name: Arch(name=name, **facts) for name, facts in read(root / "archs.yaml", "archs")["archs"].items()}
    formats = read(root / "formats.yaml", "formats")
    arguments = read(root / "arguments.yaml", "arguments")["arguments"].items()
    known = {name: Argument(name=name, **facts) for name, facts in arguments}
    families = sorted((root / "kernels").glob("*.yaml"))
    if not families:
        raise SpecError(f"{root / 'kernels'}: holds no kernel family (*.yaml)")
    instances: list[KernelInstance] = []
    for path in families:
        instances += _family(path, archs, formats, known).instances()
    _refuse_duplicates(instances)
    return Catalog(archs, tuple(instances))


def _family(
    path: Path, archs: dict[str, Arch], formats: dict[str, Any], arguments: dict[str, Argument]
) -> Family:
    spec = read(path, "family")
    if spec["op"] not in _KINDS:
        raise SpecError(f"{path}: op: {spec['op']!r} is not allowed; one of {', '.join(_KINDS)} is")
    kind, schema = _KINDS[spec["op"]]
    check(path, spec, schema)
    return kind(path, spec, archs, formats, arguments)


def _refuse_duplicates(instances: list[KernelInstance]) -> None:
    seen: set[str] = set()
    for instance in instances:
        if instance.name in seen:
            raise SpecError(f"two tiles give the same kernel name {instance.name}: remove one, or make them differ")
        seen.add(instance.name)


class _GemmFamily(Family):
    """Weight formats, activation types, archs and tiles, each with each."""

    __slots__ = ()

    def _all(self) -> Iterator[KernelInstance]:
        spec = self.spec
        weights = [self._weights(name) for name in spec["weights"]]
        tiles = [self._tile(i, facts) for i, facts in enumerate(spec["tiles"])]
        abi = tuple(self._argument(name) for name in spec["abi"])
        for arch, w, (a, out), (i, tile) in product(self._archs(), weights, self._types(), enumerate(tiles)):
            if arch.name not in spec["tiles"][i].get("archs", spec["archs"]):
                continue
            check_tile(tile, arch, f"{self.path}: tiles[{i}]", a.bytes, w)
            shape = (tile.m, tile.n, tile.k)
            yield GemmInstance(
                name=str(KernelName(spec["op"], w, a.name, arch.name, shape, tile.waves_mnk, out.name)),
                op=spec["op"],
                weights=WeightMacros(w, **self.formats["weights"][w]),
                activations=a,
                out=out,
                arch=arch,
                tile=tile,
                template=spec["templates"][tile.loop],
                abi=abi,
                limits=Limits(registers=arch.registers // tile.occupancy, lds_bytes=arch.lds_bytes),
                constraints=Constraints(k_multiple=max(_LOAD, FORMATS[w].block), **spec["constraints"]),
                tolerance=Tolerance(out.unit, spec["tolerance"]["accumulate"], spec["tolerance"]["sums"][tile.loop]),
                whole_range=tile.loop in spec["whole_range"],
            )

    def _argument(self, name: str) -> Argument:
        if name not in self.arguments:
            raise self._error(f"abi: {name!r} is not in arguments.yaml; allowed: {', '.join(self.arguments)}")
        return self.arguments[name]

    def _weights(self, name: str) -> str:
        if self._known(name, "weights") not in FORMATS:
            raise self._error(f"weights: {name!r} has no packed form in runtime.formats; known: {', '.join(FORMATS)}")
        return name

    def _types(self) -> list[tuple[Activations, Activations]]:
        """Of activations and results."""
        given = self._activations()
        if "outputs" not in self.spec:
            return [(a, a) for a in given]
        outputs = [self._type(name) for name in self.spec["outputs"]]
        return list(product(given, outputs))

    @staticmethod
    def _tile(index: int, facts: dict[str, Any]) -> Tile:
        m, n, k = facts["waves"]
        rest = {key: value for key, value in facts.items() if key not in ("waves", "archs")}
        return Tile(waves_m=m, waves_n=n, waves_k=k, **rest)


# op -> what its families are, and the schema of their files
_KINDS: dict[str, tuple[type[Family], str]] = {
    "gemm": (_GemmFamily, "gemm"),
    "grouped": (_GemmFamily, "gemm"),
    **dict.fromkeys(arrays.OPS, (arrays.ArrayFamily, "array")),
}
