"""From a kernel instance to the text of its HIP source."""

from petitgen.render.render import render

__all__ = ["render"]
