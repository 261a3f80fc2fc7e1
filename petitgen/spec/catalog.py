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
from petitgen.spec.checks import check_tile
from petitgen.spec.model import (
    Activations,
    Arch,
    Argument,
    Constraints,
    KernelInstance,
    Limits,
    Tile,
    Tolerance,
    WeightMacros,
)
from petitgen.spec.reader import read
from runtime.formats import FORMATS

_LOAD = 16  # bytes of A that a kernel loads at once; 16 of K at least


@dataclass(frozen=True, slots=True)
class Catalog:
    """What configs/ holds: architectures by name and every kernel instance, in the order of the files."""

    archs: dict[str, Arch]
    instances: tuple[KernelInstance, ...]

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
    families = sorted((root / "kernels").glob("*.yaml"))
    if not families:
        raise SpecError(f"{root / 'kernels'}: holds no kernel family (*.yaml)")
    instances: list[KernelInstance] = []
    for path in families:
        instances += _Family(path, read(path, "kernel"), archs, formats).instances()
    _refuse_duplicates(instances)
    return Catalog(archs, tuple(instances))


def _refuse_duplicates(instances: list[KernelInstance]) -> None:
    seen: set[str] = set()
    for instance in instances:
        if instance.name in seen:
            raise SpecError(f"two tiles give the same kernel name {instance.name}: remove one, or make them differ")
        seen.add(instance.name)


@dataclass(frozen=True, slots=True)
class _Family:
    """One file under configs/kernels."""

    path: Path
    spec: dict[str, Any]
    archs: dict[str, Arch]
    formats: dict[str, Any]

    def instances(self) -> list[KernelInstance]:
        found = list(self._all())
        for i, rule in enumerate(self.spec["exclude"]):
            kept = [instance for instance in found if not fnmatchcase(instance.name, rule["kernels"])]
            if len(kept) == len(found):
                raise self._error(f"exclude[{i}].kernels: {rule['kernels']!r} matches no kernel: remove the rule")
            found = kept
        if not found:
            raise self._error("exclude: leaves no kernel: remove the family's file instead")
        return found

    def _all(self) -> Iterator[KernelInstance]:
        spec = self.spec
        weights = [self._known(name, "weights") for name in spec["weights"]]
        activations = [
            (self._known(name, "activations"), self._known(out, "activations"))
            for name in spec["activations"]
            for out in spec.get("outputs", [name])
        ]
        archs = [self._arch(name) for name in spec["archs"]]
        tiles = [self._tile(i, facts) for i, facts in enumerate(spec["tiles"])]
        abi = tuple(Argument(**facts) for facts in spec["abi"])
        for arch, w, (a, out), (i, tile) in product(archs, weights, activations, enumerate(tiles)):
            if arch.name not in spec["tiles"][i].get("archs", spec["archs"]):
                continue
            check_tile(tile, arch, f"{self.path}: tiles[{i}]", self.formats["activations"][a]["bytes"])
            yield KernelInstance(
                name=str(KernelName(spec["op"], w, a, arch.name, (tile.m, tile.n, tile.k), tile.waves_mnk, out)),
                op=spec["op"],
                weights=WeightMacros(w, **self.formats["weights"][w]),
                activations=Activations(a, **self.formats["activations"][a]),
                out=Activations(out, **self.formats["activations"][out]),
                arch=arch,
                tile=tile,
                template=spec["templates"][tile.loop],
                abi=abi,
                limits=Limits(registers=arch.registers // tile.occupancy, lds_bytes=arch.lds_bytes),
                constraints=Constraints(k_multiple=max(_LOAD, FORMATS[w].block), **spec["constraints"]),
                tolerance=self._tolerance(out, tile),
                whole_range=tile.loop in spec["whole_range"],
            )

    def _known(self, name: str, kind: str) -> str:
        if name not in self.formats[kind]:
            raise self._error(f"{kind}: {name!r} is not in formats.yaml; allowed: {', '.join(self.formats[kind])}")
        if kind == "weights" and name not in FORMATS:
            raise self._error(f"weights: {name!r} has no packed form in runtime.formats; known: {', '.join(FORMATS)}")
        return name

    def _arch(self, name: str) -> Arch:
        if name not in self.archs:
            raise self._error(f"archs: {name!r} is not in archs.yaml; allowed: {', '.join(self.archs)}")
        return self.archs[name]

    def _tolerance(self, out: str, tile: Tile) -> Tolerance:
        stated = self.spec["tolerance"]
        return Tolerance(
            self.formats["activations"][out]["unit"], stated["accumulate"], stated["sums"][tile.loop]
        )

    @staticmethod
    def _tile(index: int, facts: dict[str, Any]) -> Tile:
        m, n, k = facts["waves"]
        rest = {key: value for key, value in facts.items() if key not in ("waves", "archs")}
        return Tile(waves_m=m, waves_n=n, waves_k=k, **rest)

    def _error(self, message: str) -> SpecError:
        return SpecError(f"{self.path}: {message}")
