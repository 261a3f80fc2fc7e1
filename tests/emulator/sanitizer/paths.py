"""Every path of a compiled kernel through the issue checks, without executing it: the checks depend on the path alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from petitgen.emulator.control import branch_target
from petitgen.emulator.sanitizer.footprint import Footprint, footprint
from petitgen.emulator.sanitizer.issue import NOTHING_ISSUED, Issue, step
from petitgen.emulator.sanitizer.window import Hazards
from petitgen.isa import Kernel, decode

MOST = 200_000  # (pc, state) pairs; no kernel here comes near
_LEAVE = ("s_endpgm", "s_setpc_", "s_swappc_", "s_trap")


@dataclass
class Paths:
    """A kernel, and what is wrong on any of its paths."""

    kernel: Kernel
    arch: str
    cautious: bool
    _known: dict[int, Footprint] = field(default_factory=dict)

    def at(self, pc: int) -> Footprint:
        """The instruction at a pc of the kernel."""
        if pc not in self._known:
            self._known[pc] = footprint(decode(self.kernel.code, pc - self.kernel.entry, self.arch, pc))
        return self._known[pc]

    def problems(self, deleted: int | None = None) -> list[tuple[int, str, str]]:
        """(pc, check, message) of all that is wrong when the instruction at `deleted` is left out."""
        hazards, found = Hazards(self.arch, self.cautious), {}
        seen: set[tuple[int, Issue]] = set()
        work = [(self.kernel.entry, NOTHING_ISSUED)]
        while work:
            pc, state = work.pop()
            if (pc, state) in seen:
                continue
            seen.add((pc, state))
            assert len(seen) < MOST, self.kernel.name
            touched = self.at(pc)
            if pc != deleted:
                state, problems = step(state, touched, hazards, self.kernel.entry)
                found.update({(pc, p.check, p.message): None for p in problems})
            work += [(following, state) for following in _after(touched)]
        return list(found)

    def reachable(self) -> list[Footprint]:
        """The instructions of all paths, by pc."""
        self.problems()
        return [self._known[pc] for pc in sorted(self._known)]


def _after(touched: Footprint) -> list[int]:
    ins = touched.instruction
    if ins.mnemonic.startswith(_LEAVE):
        return []
    target, following = branch_target(ins), ins.pc + ins.size
    if ins.mnemonic == "s_branch":
        assert target is not None
        return [target]
    return [following] if target is None else [following, target]
