"""Which kernel for which problem, found on the timing model or on a device."""
