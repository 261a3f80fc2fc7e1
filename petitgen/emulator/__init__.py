"""An emulator of gfx90a and gfx942 code objects: runs the real instructions of a .hsaco on numpy arrays.

launch() is the entry; DeviceMemory holds buffers whose addresses must be known beforehand; an Observer
watches a run.
"""

from petitgen.emulator.launch import LaunchResult, LoadedCode, launch
from petitgen.emulator.memory import DeviceMemory
from petitgen.emulator.state import Observer

__all__ = ["DeviceMemory", "LaunchResult", "LoadedCode", "Observer", "launch"]
