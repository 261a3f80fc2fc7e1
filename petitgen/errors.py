"""Every error a user of petitgen can meet. Libraries raise these; only the command line turns them into exit statuses."""

from __future__ import annotations

from typing import Any


class PetitgenError(Exception):
    """Base. The message says what is wrong, where, and what to do about it."""


class SpecError(PetitgenError):
    """A file under configs/ is wrong. Message: file, key path, offending value, what is allowed."""


class RenderError(PetitgenError):
    """A template failed for a kernel instance."""


class ToolchainError(PetitgenError):
    """No usable compiler, or the chosen one cannot be run."""


class BuildError(PetitgenError):
    """One or more kernels did not build."""


class DecodeError(PetitgenError):
    """Bytes that are no instruction of the architecture: pc, bytes, and the nearest mnemonic where there is one."""


class CodeObjectError(PetitgenError):
    """Not an ELF code object, the wrong architecture, or a missing kernel."""


class EmulationError(PetitgenError):
    """A kernel did something the emulated device cannot do (bad address, unknown instruction, deadlock).

    findings: what the sanitizer had found until then, if it was on (petitgen.emulator.sanitizer.Finding)
    """

    findings: tuple[Any, ...] = ()


class VerifyError(PetitgenError):
    """Verification could not be run (a wrong result is a finding, not an exception)."""


class DriverError(PetitgenError):
    """The virtual GPU cannot be made, started or used here."""


class ProfileError(PetitgenError):
    """The timing model cannot run a launch: it does not end, does not fit a CU, or its parameters are missing."""


class ExecutorError(PetitgenError):
    """Work could not be given to other processes or machines, or one of them died."""


class TuneError(PetitgenError):
    """Tuning could not be run: nothing built for it, a device that is not there, shapes that are none."""
