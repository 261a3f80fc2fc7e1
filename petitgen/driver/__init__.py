"""The virtual GPU: a libamdhip64.so whose devices are emulated. See docs/virtual-gpu.md.

activate() puts it into this process; `petitgen virtual -- program` runs an unmodified program with it. control has what
tests want: failures on purpose, what is alive, the story of the last fault.
"""

from petitgen.driver.activate import activate, check_used, child_environment, is_active, mapped
from petitgen.driver.build import library
from petitgen.errors import DriverError

__all__ = ["DriverError", "activate", "check_used", "child_environment", "is_active", "library", "mapped"]
