"""Memory instructions: where their lanes point (flat, buffer, lds, scalar) and what they do there (transfer,
atomics)."""
