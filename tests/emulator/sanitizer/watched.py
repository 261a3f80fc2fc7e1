"""Short assembled programs run under a whole Sanitizer, from any starting state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from petitgen.emulator.sanitizer import Finding, Sanitizer

from ..assembled import ENTRY, Machine

LANE = np.arange(64, dtype=np.uint32)


class Watched(Machine):
    """A Machine whose runs are watched by `sanitizer`. Registers that are set before `run` have values."""

    def __init__(
        self, arch: str, waves: int = 1, workgroups: int = 1, lds: int = 1024, private: int = 0, **options: Any
    ) -> None:
        super().__init__(arch, waves, workgroups, lds, private)
        self.sanitizer = Sanitizer(**options)
        self.launch: Any = SimpleNamespace(
            kernel=SimpleNamespace(name="test", entry=ENTRY),
            arch=arch,
            grid=(workgroups, 1, 1),
            waves_per_group=waves // workgroups,
            memory=self.memory,
        )

    def watch(self) -> None:
        """Make the checks; run() does it if it has not been done."""
        self.sanitizer.start(self.launch)
        self.sanitizer.batch(self.batch)

    def find(self, text: str, *checks: str) -> list[Finding]:
        """Run, and return the findings of some checks (default: all but those of waits and wait states)."""
        if not hasattr(self.sanitizer, "races"):
            self.watch()
        self.run(text, observer=self.sanitizer)
        wanted = checks or ("race", "barrier", "undefined", "out-of-range", "misaligned", "scratch")
        return [f for f in self.sanitizer.findings() if f.check in wanted]
