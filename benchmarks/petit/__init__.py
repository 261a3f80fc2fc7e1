"""Petit (petit-kernel on PyPI), read from its wheel and run on the emulated device; the parts of ../petit.py."""
