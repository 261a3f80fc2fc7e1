"""Families of kernels that go over arrays once: quantize, dequantize, the largest magnitude."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from petitgen.names import ArrayName
from petitgen.spec.family import Family
from petitgen.spec.model import Argument, ArrayInstance, KernelInstance, Limits

OPS = ("quantize", "dequantize", "amax", "rowquantize")


class ArrayFamily(Family):
    """Formats, activation types, archs and variants, each with each."""

    __slots__ = ()

    def _all(self) -> Iterator[KernelInstance]:
        spec = self.spec
        abi = tuple(Argument(**facts) for facts in spec["abi"])
        formats = spec.get("formats", [""])
        for arch, form, a, facts in product(self._archs(), formats, self._activations(), spec["kernels"]):
            if arch.name not in facts.get("archs", spec["archs"]):
                continue
            yield ArrayInstance(
                name=str(ArrayName(spec["op"], form, a.name, arch.name, facts["variant"])),
                op=spec["op"],
                activations=a,
                arch=arch,
                template=facts["template"],
                abi=abi,
                limits=Limits(registers=arch.registers // facts["occupancy"], lds_bytes=arch.lds_bytes),
                form=form,
                variant=facts["variant"],
                threads=facts["threads"],
                occupancy=facts["occupancy"],
                grid=tuple(axis if isinstance(axis, int) else (axis[0], axis[1]) for axis in facts["grid"]),
                numbers=dict(facts.get("numbers", {})),
            )
