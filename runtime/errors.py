"""Errors of the runtime: each says what is wrong and what to do."""

from __future__ import annotations


class RuntimeLibraryError(Exception):
    """Base of every error the runtime raises."""


class PackError(RuntimeLibraryError, ValueError):
    """Checkpoint tensors that cannot be packed: wrong shape, dtype or value."""


class DescriptorError(RuntimeLibraryError, ValueError):
    """A buffer that no 128-bit buffer resource descriptor can describe."""


class ManifestError(RuntimeLibraryError, ValueError):
    """A manifest.json that is missing, damaged or not of the form this runtime reads."""


class ManifestVersionError(ManifestError):
    """A manifest.json written by another version of petitgen: build the kernels again."""
