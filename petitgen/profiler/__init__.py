"""A timing model of one compute unit and of the device, fed by the emulator's trace.

profile() takes any launch, profile_gemm() a kernel of a manifest at a shape. docs/profiler.md says what is modelled.
"""

from petitgen.profiler.gemm import gemm_launch, gemm_problem, profile_gemm
from petitgen.profiler.launches import Launch
from petitgen.profiler.model import profile
from petitgen.profiler.result import Problem, Profile

__all__ = ["Launch", "Problem", "Profile", "gemm_launch", "gemm_problem", "profile", "profile_gemm"]
