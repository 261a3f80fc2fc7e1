"""One file under configs/kernels, whatever its op: the part that all kinds of family share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from petitgen.errors import SpecError
from petitgen.spec.model import Activations, Arch, Argument, KernelInstance


@dataclass(frozen=True, slots=True)
class Family:
    """The file, what it says, and what it may name. A kind of family says in `_all` which kernels that makes."""

    path: Path
    spec: dict[str, Any]
    archs: dict[str, Arch]
    formats: dict[str, Any]
    arguments: dict[str, Argument]

    def instances(self) -> list[KernelInstance]:
        """All but those excluded. SpecError, naming file and key, for what is not possible."""
        found = list(self._all())
        for i, rule in enumerate(self.spec.get("exclude", ())):
            kept = [instance for instance in found if not fnmatchcase(instance.name, rule["kernels"])]
            if len(kept) == len(found):
                raise self._error(f"exclude[{i}].kernels: {rule['kernels']!r} matches no kernel: remove the rule")
            found = kept
        if not found:
            raise self._error("exclude: leaves no kernel: remove the family's file instead")
        return found

    def _all(self) -> Iterator[KernelInstance]:
        raise NotImplementedError

    def _activations(self) -> list[Activations]:
        return [self._type(name) for name in self.spec["activations"]]

    def _type(self, name: str) -> Activations:
        return Activations(name, **self.formats["activations"][self._known(name, "activations")])

    def _known(self, name: str, kind: str) -> str:
        if name not in self.formats[kind]:
            raise self._error(f"{kind}: {name!r} is not in formats.yaml; allowed: {', '.join(self.formats[kind])}")
        return name

    def _archs(self) -> list[Arch]:
        for name in self.spec["archs"]:
            if name not in self.archs:
                raise self._error(f"archs: {name!r} is not in archs.yaml; allowed: {', '.join(self.archs)}")
        return [self.archs[name] for name in self.spec["archs"]]

    def _error(self, message: str) -> SpecError:
        return SpecError(f"{self.path}: {message}")
