"""The weights of real models, as the GEMMs that one rank of a tensor-parallel group multiplies.

Sources: the config.json of each model (hidden_size, intermediate_size, num_attention_heads, num_key_value_heads,
head_dim). Fused as serving engines fuse them: q, k and v are one GEMM, gate and up another. qkv and gate_up are split
along N over the ranks, o and down along K.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

RANKS = (1, 2, 4, 8)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Model:
    """A transformer's sizes, in elements. ffn: None where the feed-forward part is no dense GEMM."""

    name: str
    hidden: int
    ffn: int | None
    heads: int
    kv_heads: int
    head_dim: int

    def splits(self, ranks: int) -> bool:
        """Does every rank have the same whole heads?"""
        return self.heads % ranks == 0 and self.kv_heads % ranks == 0 and (self.ffn or 0) % ranks == 0

    def weights(self, ranks: int) -> tuple[tuple[str, int, int], ...]:
        """(name, N, K) of each weight a layer has, of one rank of `ranks`."""
        qkv, attended = (self.heads + 2 * self.kv_heads) * self.head_dim, self.heads * self.head_dim
        found = [("qkv", qkv // ranks, self.hidden), ("o", self.hidden, attended // ranks)]
        if self.ffn is not None:
            found += [("gate_up", 2 * self.ffn // ranks, self.hidden), ("down", self.hidden, self.ffn // ranks)]
        return tuple(found)


MODELS = {
    model.name: model
    for model in (
        Model("llama-3-70b", 8192, 28672, 64, 8, 128),
        Model("llama-3-8b", 4096, 14336, 32, 8, 128),
        # Its experts are a grouped GEMM; the attention projections alone are dense.
        Model("gpt-oss-120b", 2880, None, 64, 8, 64),
    )
}


@dataclass(frozen=True, slots=True)
class Weight:
    """One (N, K), and every place it comes from: (model, ranks, name)."""

    n: int
    k: int
    uses: tuple[tuple[str, int, str], ...]


def weights(models: Iterable[str] = tuple(MODELS), ranks: Iterable[int] = RANKS) -> tuple[Weight, ...]:
    """The different weights of these models (names of MODELS) at these numbers of ranks, each (N, K) once."""
    found: dict[tuple[int, int], list[tuple[str, int, str]]] = {}
    counts = tuple(ranks)
    for model in models:
        for count in counts:
            for name, n, k in MODELS[model].weights(count):
                found.setdefault((n, k), []).append((model, count, name))
    return tuple(Weight(n, k, tuple(uses)) for (n, k), uses in found.items())
