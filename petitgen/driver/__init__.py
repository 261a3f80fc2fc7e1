"""The virtual GPU: a libamdhip64.so whose devices are emulated. See docs/virtual-gpu.md.

activate() puts it into this process; `petitgen virtual -- program` runs an unmodified program with it.
"""

from petitgen.driver.activate import activate, check_used, child_environment, is_active, mapped
from petitgen.driver.build import library

__all__ = ["activate", "check_used", "child_environment", "is_active", "library", "mapped"]
