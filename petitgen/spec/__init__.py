"""From YAML under configs/ to frozen kernel instances."""

from petitgen.spec.catalog import Catalog, load_catalog
from petitgen.spec.model import KernelInstance

__all__ = ["Catalog", "KernelInstance", "load_catalog"]
