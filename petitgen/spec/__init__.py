"""From YAML under configs/ to frozen kernel instances."""

from petitgen.spec.catalog import Catalog, load_catalog
from petitgen.spec.model import ArrayInstance, GemmInstance, KernelInstance

__all__ = ["ArrayInstance", "Catalog", "GemmInstance", "KernelInstance", "load_catalog"]
