"""A timing model of one compute unit and of the device, fed by the emulator's trace."""

from petitgen.profiler.result import Problem, Profile

__all__ = ["Problem", "Profile"]
