"""Errors of the runtime: each says what is wrong and what to do."""

from __future__ import annotations


class RuntimeLibraryError(Exception):
    """Base of every error the runtime raises."""


class PackError(RuntimeLibraryError, ValueError):
    """Checkpoint tensors that cannot be packed: wrong shape, dtype or value."""


class DescriptorError(RuntimeLibraryError, ValueError):
    """A buffer that no 128-bit buffer resource descriptor can describe."""
